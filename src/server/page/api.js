// Client of the server's HTTP interface.

/** False: recordings are sent to the server. The page without a server has another client, where it is true. */
export const LOCAL = false;

const ROOT = new URL('../', import.meta.url);
let key = null;

/** Sets the key of all later requests; it stays in this tab's memory. */
export function setKey(value) {
  key = value;
}

export function hasKey() {
  return key !== null;
}

/** Error of a request, from the server or from the page itself (status 0). */
export class Refused extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

async function send(path, options = {}) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), { ...options, headers, credentials: 'omit', redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0, 'offline', '');
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let detail = {};
  try {
    detail = JSON.parse(text).error ?? {};
  } catch {
    // A proxy may respond with its own HTML page.
  }
  const wait = Number.parseInt(answer.headers.get('Retry-After') ?? '', 10);
  const retryAfter = Number.isFinite(wait) ? wait : null;
  throw new Refused(answer.status, detail.code ?? `http_${answer.status}`, detail.message ?? '', retryAfter);
}

/** Returns the server's model description. */
export async function model() {
  return (await (await send('v1/models')).json()).models[0];
}

/** Recognises a recording and returns the response in a format, as a blob with its content type. */
export async function recognise(file, name, format, signal, profile = null) {
  const body = new FormData();
  body.append('response_format', format);
  if (profile) body.append('profile', profile);
  body.append('file', file, name);
  const answer = await send('v1/audio/emotion', { method: 'POST', body, signal });
  return new Blob([await answer.arrayBuffer()], { type: answer.headers.get('Content-Type') });
}

/** Returns the profile of the speaker of `recordings`, as text. */
export async function profile(recordings, signal) {
  const body = new FormData();
  for (const { file, name } of recordings) body.append('file', file, name);
  return (await send('v1/speaker/profile', { method: 'POST', body, signal })).text();
}

/** Opens the WebSocket for a recording in progress. */
export function stream() {
  const url = new URL('v1/audio/stream', ROOT);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return new WebSocket(url);
}
