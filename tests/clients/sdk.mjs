// opencode's own SDK against a session: conversations of its own and the session's, events, an abort. Fails where it would fail a user.
import assert from "node:assert/strict";
import { createOpencodeClient } from "@opencode-ai/sdk";

const { BASE_URL, KEY, WORD, OWN } = process.env;
const client = createOpencodeClient({ baseUrl: BASE_URL, headers: { Authorization: `Bearer ${KEY}` } });

const data = async (call) => {
  const { data, error, response } = await call;
  assert.equal(error, undefined, `${response.status} ${response.url}: ${JSON.stringify(error)}`);
  return data;
};
const text = (reply) => reply.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
const prompt = (id, words) =>
  data(client.session.prompt({ path: { id }, body: { parts: [{ type: "text", text: words }] } }));

// Events, from before the first word on.
const seen = [];
const waiting = [];
const { stream } = await client.event.subscribe();
const reading = (async () => {
  for await (const event of stream) {
    seen.push(event);
    waiting.splice(0).forEach((wake) => wake());
  }
})();
const event = async (what, matches, from = 0) => {
  const late = Date.now() + 60_000;
  for (;;) {
    const found = seen.slice(from).find(matches);
    if (found) return found;
    assert.ok(Date.now() < late, `no event in time: ${what}; seen: ${seen.map((each) => each.type)}`);
    await Promise.race([new Promise((wake) => waiting.push(wake)), new Promise((wake) => setTimeout(wake, 1000))]);
  }
};
const idle = (id) => (each) => each.type === "session.idle" && each.properties.sessionID === id;

// Two conversations that know nothing of each other.
const one = await data(client.session.create({ body: { title: "one" } }));
const two = await data(client.session.create({ body: { title: "two" } }));
assert.notEqual(one.id, two.id);
assert.equal(text(await prompt(one.id, `!say ${WORD}-one`)), `${WORD}-one`);
assert.equal(text(await prompt(two.id, `!say ${WORD}-two`)), `${WORD}-two`);
await event("the first conversation rests", idle(one.id));
const told = await data(client.session.messages({ path: { id: one.id } }));
assert.deepEqual(told.map((message) => message.info.role), ["user", "assistant"]);
assert.ok((await data(client.session.list())).some((session) => session.id === two.id));

// A tool really runs in the pod, and its file can be read.
await prompt(one.id, `!run printf %s ${WORD} > sdk.txt`);
assert.equal((await data(client.file.read({ query: { path: "sdk.txt" } }))).content, WORD);

// The session's own conversation is the one that Paddock shows.
assert.equal(text(await prompt(OWN, `!say ${WORD}-own`)), `${WORD}-own`);

// What nobody waits for is stopped in the middle of a reply: before the first word of it there is nothing to stop.
const before = seen.length;
const begun = await client.session.promptAsync({
  path: { id: two.id },
  body: { parts: [{ type: "text", text: `${WORD} comes in pieces\n!chunks 30 2000` }] },
});
assert.equal(begun.response.status, 204, JSON.stringify(begun.error));
const word = (each) => each.type === "message.part.delta" && each.properties.sessionID === two.id;
await event("the reply begins", word, before);
assert.equal(await data(client.session.abort({ path: { id: two.id } })), true);
await event("it rests", idle(two.id), before);
const last = (await data(client.session.messages({ path: { id: two.id } }))).at(-1);
assert.equal(last.info.error?.name, "MessageAbortedError", JSON.stringify(last));

// What is gone is gone; what never was is told apart from a failure.
await data(client.session.delete({ path: { id: two.id } }));
const gone = await client.session.prompt({ path: { id: two.id }, body: { parts: [{ type: "text", text: "x" }] } });
assert.equal(gone.response.status, 404, JSON.stringify(gone.error));
const own = await client.session.delete({ path: { id: OWN } });
assert.equal(own.response.status, 403, JSON.stringify(own.error));

console.log("all done");
process.exit(0);
