// The server that this page came from, and no other.

const ROOT = new URL('../', import.meta.url);
let key = null;

/** Sent with every request from here on; kept in this tab's memory alone. */
export function setKey(value) {
  key = value;
}

export function hasKey() {
  return key !== null;
}

/** Why a request has no answer. */
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
    // A proxy in between has its own pages.
  }
  const wait = Number.parseInt(answer.headers.get('Retry-After') ?? '', 10);
  const retryAfter = Number.isFinite(wait) ? wait : null;
  throw new Refused(answer.status, detail.code ?? `http_${answer.status}`, detail.message ?? '', retryAfter);
}

/** What the server says about its model. */
export async function model() {
  return (await (await send('v1/models')).json()).models[0];
}

/** A recording's answer in a format, with every byte, of its content type. */
export async function recognise(file, name, format, signal, profile = null) {
  const body = new FormData();
  body.append('response_format', format);
  if (profile) body.append('profile', profile);
  body.append('file', file, name);
  const answer = await send('v1/audio/emotion', { method: 'POST', body, signal });
  return new Blob([await answer.arrayBuffer()], { type: answer.headers.get('Content-Type') });
}

/** The profile of the speaker of recordings, as text. */
export async function profile(recordings, signal) {
  const body = new FormData();
  for (const { file, name } of recordings) body.append('file', file, name);
  return (await send('v1/speaker/profile', { method: 'POST', body, signal })).text();
}

/** The WebSocket of a recording that is being made. */
export function stream() {
  const url = new URL('v1/audio/stream', ROOT);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return new WebSocket(url);
}
