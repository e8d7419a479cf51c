// The page's recogniser in place of a server: a Web Worker with the WebAssembly module. It has the interface of
// the server's client.

/** True: the words of the page speak of this device, not of a server. */
export const LOCAL = true;

/** Limits as the server has them, but for the file size: nothing is sent. */
const LIMITS = { body_bytes: 200 << 20, audio_seconds: 600 };
/** Lengths of an interim result's audio in seconds: the first, and the most that is looked at. */
const FIRST = 2;
const INTERIM_SECONDS = 15;
const TYPES = {
  json: 'application/json', jsonl: 'application/x-ndjson', codes: 'application/x-ndjson',
  csv: 'text/csv; charset=utf-8', 'excel-csv': 'text/csv; charset=utf-8', svg: 'image/svg+xml; charset=utf-8',
};

export function setKey() {}
export const hasKey = () => false;

/** Error of a call; `code` is a recogniser's or the page's own. */
export class Refused extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

// A worker made of a blob inherits the page's policy, which forbids every connection; one made of a file has
// the policy that the web server sends with it, which may be none.
const START = URL.createObjectURL(
  new Blob([`import ${JSON.stringify(new URL('worker.js', import.meta.url).href)};`], { type: 'text/javascript' }),
);

let worker = null;
let count = 0;
const waiting = new Map();

function start() {
  worker = new Worker(START, { type: 'module' });
  const own = worker;
  worker.onmessage = ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (!error) return resolve?.(value);
    if (error.code === 'crashed') restart(own, error.message);
    // 422: the same recording would be refused again.
    reject?.(new Refused(error.code === 'crashed' ? 500 : 422, error.code, error.message));
  };
  worker.onerror = event => {
    event.preventDefault();
    restart(own, event.message ?? '');
  };
  worker.onmessageerror = () => restart(own, '');
}

/** Replaces a worker that has failed. Its calls are refused; the next call loads the recogniser again. */
function restart(failed, message) {
  if (worker !== failed) return;
  failed.terminate();
  worker = null;
  for (const { reject } of waiting.values()) reject(new Refused(500, 'crashed', message));
  waiting.clear();
}

function call(name, argument, transfer = []) {
  if (!worker) start();
  const id = ++count;
  const result = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  worker.postMessage({ id, name, argument }, transfer);
  return result;
}

/** Returns the model's description. */
export async function model() {
  const { formats, ...described } = await call('model');
  return { ...described, limits: { ...LIMITS, formats } };
}

const cancelled = signal => {
  if (signal?.aborted) throw new DOMException('', 'AbortError');
};

/** Recognises a recording and returns the answer in a format, as a blob with its content type. */
export async function recognise(file, name, format, signal, profile = null) {
  const bytes = await file.arrayBuffer();
  cancelled(signal);
  const options = { name, maxSeconds: LIMITS.audio_seconds, profile: profile && JSON.parse(profile) };
  const text = await call('format', { bytes, format, options }, [bytes]);
  cancelled(signal);
  return new Blob([text], { type: TYPES[format] ?? 'text/plain; charset=utf-8' });
}

/** Returns the profile of the speaker of `recordings`, as text. */
export async function profile(recordings, signal) {
  const bytes = await Promise.all(recordings.map(({ file }) => file.arrayBuffer()));
  cancelled(signal);
  return call('profile', { bytes, names: recordings.map(({ name }) => name), maxSeconds: LIMITS.audio_seconds }, bytes);
}

/** Recognition of a recording in progress, with the part of WebSocket's interface that the recorder uses. */
class Stream {
  readyState = WebSocket.CONNECTING;
  bufferedAmount = 0;
  #setup = null;
  #blocks = [];
  #frames = 0;
  #reported = FIRST - 1;
  #isBusy = false;

  constructor() {
    queueMicrotask(() => {
      this.readyState = WebSocket.OPEN;
      this.onopen?.();
    });
  }

  send(message) {
    if (!this.#setup) {
      const { sample_rate: rate, name, profile } = JSON.parse(message);
      this.#setup = { rate, options: { name, profile, maxSeconds: LIMITS.audio_seconds } };
    } else if (typeof message === 'string') {
      this.#final();
    } else {
      this.#blocks.push(message);
      this.#frames += message.length;
      this.#interim();
    }
  }

  close() {
    this.readyState = WebSocket.CLOSED;
  }

  /** Returns samples `from` to `to` of the recording. */
  #samples(from, to) {
    const samples = new Int16Array(to - from);
    let at = 0;
    for (const block of this.#blocks) {
      const part = block.subarray(Math.max(0, from - at), Math.max(0, to - at));
      if (part.length) samples.set(part, Math.max(0, at - from));
      at += block.length;
    }
    return samples;
  }

  async #answer(from, to, options) {
    const samples = this.#samples(from, to);
    const { rate } = this.#setup;
    try {
      const line = await call('samples', { samples, rate, options: { ...this.#setup.options, ...options } }, [samples.buffer]);
      return `"result":${line.trimEnd()}`;
    } catch ({ code, message }) {
      return `"error":${JSON.stringify({ code, message })}`;
    }
  }

  #tell(text) {
    if (this.readyState === WebSocket.OPEN) this.onmessage?.({ data: text });
  }

  /** Answers for each whole second that ends while no other answer is computed. */
  async #interim() {
    const { rate } = this.#setup;
    const seconds = Math.floor(this.#frames / rate);
    if (seconds <= this.#reported || this.#isBusy) return;
    this.#reported = seconds;
    this.#isBusy = true;
    const start = Math.max(0, seconds - INTERIM_SECONDS);
    const answer = await this.#answer(start * rate, seconds * rate, { start });
    this.#isBusy = false;
    if (!this.#isEnding) this.#tell(`{"type":"interim","start":${start},"end":${seconds},${answer}}`);
  }

  #isEnding = false;

  async #final() {
    this.#isEnding = true;
    const answer = await this.#answer(0, this.#frames, {});
    this.#tell(`{"type":"final",${answer}}`);
  }
}

/** Opens the recognition of a recording in progress. */
export const stream = () => new Stream();

// Without a network the page comes from the cache of its service worker. A page that cannot have one, such as
// over http from another machine, works without.
navigator.serviceWorker?.register(new URL('../offline.js', import.meta.url)).catch(() => {});
