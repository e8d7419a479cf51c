// maeum in browsers and Node: emotion, age and gender of a voice recording, computed on this device.

import { Engine, RecognitionError } from './engine.js';

export { RecognitionError };

/**
 * A module with `f32x4.relaxed_madd`: its function returns the part of `x * x + z` that one rounding leaves and two lose.
 * Engines without relaxed SIMD refuse it.
 */
const PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 125, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 31, 1, 29, 0,
  67, 1, 0, 128, 63, 253, 19, 67, 1, 0, 128, 63, 253, 19, 67, 2, 0, 128, 191, 253, 19, 253, 133, 2, 253, 31, 0, 11,
);

/** Returns true if the engine rounds a multiply-add once. The standard lets it choose, once for all. */
function isFused() {
  if (!WebAssembly.validate(PROBE)) return false;
  return new WebAssembly.Instance(new WebAssembly.Module(PROBE)).exports.f() === 2 ** -46;
}

/** Returns the name of the module for this engine. Answers do not depend on it. */
export function moduleName() {
  return isFused() ? 'maeum-relaxed.wasm' : 'maeum.wasm';
}

/** Reads a file of the package. */
async function read(name) {
  const url = new URL(name, import.meta.url);
  if (url.protocol === 'file:') {
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ 'node:fs/promises');
    return readFile(url);
  }
  const response = await fetch(url);
  if (!response.ok) {
    throw new RecognitionError('unreadable', `${url}: the server answers ${response.status}; publish the files of the package beside its scripts`);
  }
  return response.arrayBuffer();
}

/** Returns a view of the bytes of a recording. */
function view(recording) {
  if (ArrayBuffer.isView(recording)) return new Uint8Array(recording.buffer, recording.byteOffset, recording.byteLength);
  if (recording instanceof ArrayBuffer) return new Uint8Array(recording);
  throw new RecognitionError('bad_request', 'a recording must be a Uint8Array or an ArrayBuffer with the content of a file');
}

const NAMES = { name: 'name', format: 'format', dropout: 'dropout', profile: 'profile', channel: 'channel', maxSeconds: 'max_seconds', start: 'start' };

/** Returns the options as JSON text. The seed may exceed the range of JavaScript's numbers. */
function serialise({ seed, ...options }) {
  const known = {};
  for (const [name, value] of Object.entries(options)) {
    if (!(name in NAMES)) throw new RecognitionError('bad_request', `there is no option ${name}; give ${Object.keys(NAMES).join(', ')} or seed`);
    if (value !== undefined && value !== null) known[NAMES[name]] = value;
  }
  const text = JSON.stringify(known);
  if (seed === undefined || seed === null) return text;
  if (typeof seed !== 'bigint' && !Number.isSafeInteger(seed)) {
    throw new RecognitionError('bad_request', 'the seed must be a whole number; give one above 2^53 as a BigInt');
  }
  return `${text.slice(0, -1)}${text === '{}' ? '' : ','}"seed":${seed}}`;
}

/** A model prepared for recognition. */
export class Recognizer {
  #engine;
  #handle;

  /**
   * Loads the module and the built-in model, or the given ones.
   * @param given `module`: a compiled module or its bytes; `model`: the bytes of a bundle.
   */
  static async load({ module, model } = {}) {
    const [code, bundle] = await Promise.all([module ?? read(moduleName()), model ?? read('model.safetensors')]);
    const compiled = code instanceof WebAssembly.Module ? code : await WebAssembly.compile(code);
    const recognizer = new Recognizer();
    recognizer.#engine = await Engine.create(compiled);
    recognizer.#handle = recognizer.#engine.open(view(bundle));
    return recognizer;
  }

  /** Version of the library. */
  get version() {
    return this.#engine.version();
  }

  /** Description of the model: labels, licences, formats. */
  get model() {
    return JSON.parse(this.#engine.describe(this.#open()));
  }

  /** Size of the module's memory in bytes. It grows with the longest recording and never shrinks. */
  get memoryBytes() {
    return this.#engine.memoryBytes;
  }

  #open() {
    if (!this.#handle) throw new RecognitionError('bad_request', 'this recogniser is closed; load another');
    return this.#handle;
  }

  /** Recognises the content of an audio file. */
  recognize(recording, options = {}) {
    return JSON.parse(this.format(recording, 'jsonl', options));
  }

  /** Recognises mono samples: `Float32Array` with full scale 1, or `Int16Array`. */
  recognizeSamples(samples, sampleRate, options = {}) {
    return JSON.parse(this.formatSamples(samples, sampleRate, 'jsonl', options));
  }

  /** `recognize` as text in a format, such as `csv`: the bytes that the program `infer` prints. */
  format(recording, format, options = {}) {
    return this.#engine.recognize(this.#open(), view(recording), serialise({ ...options, format }));
  }

  /** `recognizeSamples` as text in a format. */
  formatSamples(samples, sampleRate, format, options = {}) {
    if (!(samples instanceof Float32Array || samples instanceof Int16Array)) {
      throw new RecognitionError('bad_request', 'samples must be a Float32Array or an Int16Array');
    }
    if (!Number.isInteger(sampleRate) || sampleRate < 0 || sampleRate >= 2 ** 32) {
      throw new RecognitionError('bad_request', 'the sample rate must be a whole number of Hz');
    }
    return this.#engine.recognizeSamples(this.#open(), samples, sampleRate, serialise({ ...options, format }));
  }

  /** Returns the profile of the one speaker of recordings, for the option `profile`. It is personal data. */
  profile(recordings, { names = [], maxSeconds } = {}) {
    const each = Array.from(recordings, (recording, i) => ({
      bytes: view(recording),
      options: serialise({ name: names[i], maxSeconds }),
    }));
    return JSON.parse(this.#engine.profile(this.#open(), each));
  }

  /** Frees the model's memory for another recogniser of the same module. */
  close() {
    if (this.#handle) this.#engine.close(this.#handle);
    this.#handle = 0;
  }
}
