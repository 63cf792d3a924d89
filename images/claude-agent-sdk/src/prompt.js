// From a message's parts to the blocks that a model takes. The runner has refused what is neither text nor an image.

const IMAGES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp']
const DATA_URL = /^data:([a-z0-9.+/-]+);base64,(.+)$/is

/** The blocks of a user message. */
export function blocks(parts) {
  return parts.map((part) => {
    if (part.type === 'text') return { type: 'text', text: part.text }
    return imageOf(part.url) ?? { type: 'text', text: `[${part.filename ?? part.type}]` }
  })
}

function imageOf(url) {
  const found = DATA_URL.exec(url ?? '')
  const mime = found?.[1].toLowerCase()
  if (!IMAGES.includes(mime)) return undefined
  return { type: 'image', source: { type: 'base64', media_type: mime, data: found[2] } }
}
