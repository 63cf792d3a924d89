// An EventSource that follows a session: one line for each event, `<id> <type>`. It goes on by itself after its connection breaks.
import { EventSource } from "eventsource";

const { URL, KEY } = process.env;
const source = new EventSource(URL, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${KEY}` } }),
});
source.onopen = () => console.log("- opened");
source.onmessage = ({ lastEventId, data }) => console.log(`${lastEventId} ${JSON.parse(data).type}`);
source.onerror = ({ code }) => console.log(`- broken ${code ?? ""}`);
