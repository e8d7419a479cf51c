// Calls of the C functions (ffi/include/maeum.h) in a WebAssembly instance.

/** Refused call. `code` is a stable name such as `no_speech`; the message says what to do. */
export class RecognitionError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'RecognitionError';
    this.code = code;
  }
}

const OK = 0;
const POINTER = 4;

export class Engine {
  #exports;
  #encoder = new TextEncoder();
  // A byte order mark is part of a format.
  #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #names = new Map();
  /** Message of the panic that ended the instance. */
  #crash = null;

  /** Creates an instance of a compiled module. It has no imports: it can reach nothing but its own memory. */
  static async create(module) {
    const engine = new Engine();
    engine.#exports = (await WebAssembly.instantiate(module, {})).exports;
    return engine;
  }

  /** Size of the instance's memory in bytes. It never shrinks. */
  get memoryBytes() {
    return this.#exports.memory.buffer.byteLength;
  }

  /** Returns the text that ends with NUL at an address. */
  #string(address) {
    const bytes = new Uint8Array(this.#exports.memory.buffer, address);
    return this.#decoder.decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  /** Takes and frees a `maeum_text`. */
  #take(text) {
    const [at, size] = [this.#exports.maeum_text_data(text), this.#exports.maeum_text_size(text)];
    const taken = this.#decoder.decode(new Uint8Array(this.#exports.memory.buffer, at, size));
    this.#exports.maeum_text_free(text);
    return taken;
  }

  #statusName(status) {
    if (!this.#names.has(status)) this.#names.set(status, this.#string(this.#exports.maeum_status_name(status)));
    return this.#names.get(status);
  }

  /** Runs `work`; a trap ends the instance. */
  #guarded(work) {
    if (this.#crash !== null) throw new RecognitionError('crashed', this.#crash);
    try {
      return work();
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      let message = error.message;
      try {
        const text = this.#exports.maeum_panic_message();
        if (text) message = this.#take(text);
      } catch {
        // The trap may have been an exhausted stack or memory; its own message remains.
      }
      this.#crash = `the recogniser failed and has to be loaded again: ${message}`;
      throw new RecognitionError('crashed', this.#crash);
    }
  }

  /** Copies bytes into the instance during `work`, which gets their address. */
  #holding(bytes, work) {
    if (!bytes.byteLength) return work(0);
    const size = bytes.byteLength;
    const address = this.#exports.maeum_allocate(size);
    if (!address) throw new RecognitionError('out_of_memory', `there is no memory for ${size} bytes; give a shorter recording`);
    new Uint8Array(this.#exports.memory.buffer, address, size).set(
      new Uint8Array(bytes.buffer ?? bytes, bytes.byteOffset ?? 0, size),
    );
    try {
      return work(address);
    } finally {
      this.#exports.maeum_release(address, size);
    }
  }

  /** Calls a function whose last argument is the address of a `maeum_text *`; returns the text. */
  #call(name, ...args) {
    const slot = this.#exports.maeum_allocate(POINTER);
    const status = this.#exports[name](...args, slot);
    const text = new DataView(this.#exports.memory.buffer).getUint32(slot, true);
    this.#exports.maeum_release(slot, POINTER);
    const content = text ? this.#take(text) : '';
    if (status !== OK) throw new RecognitionError(this.#statusName(status), content);
    return content;
  }

  #withOptions(options, work) {
    return this.#holding(this.#encoder.encode(`${options}\0`), work);
  }

  version() {
    return this.#guarded(() => this.#string(this.#exports.maeum_version()));
  }

  /** Prepares a bundle, or the built-in model for `null`; returns the recogniser's address. */
  open(bundle) {
    return this.#guarded(() =>
      this.#holding(bundle ?? new Uint8Array(), address => {
        const slot = this.#exports.maeum_allocate(POINTER);
        // NULL would be the built-in model; an empty bundle has an address as well.
        const start = bundle && !address ? slot : address;
        try {
          this.#call('maeum_recognizer_new', start, bundle?.byteLength ?? 0, slot);
          return new DataView(this.#exports.memory.buffer).getUint32(slot, true);
        } finally {
          this.#exports.maeum_release(slot, POINTER);
        }
      }),
    );
  }

  close(recognizer) {
    if (this.#crash === null) this.#exports.maeum_recognizer_free(recognizer);
  }

  describe(recognizer) {
    return this.#guarded(() => this.#call('maeum_recognizer_describe', recognizer));
  }

  /** Recognises the bytes of a file; `options` is JSON text. */
  recognize(recognizer, bytes, options) {
    return this.#guarded(() =>
      this.#withOptions(options, text =>
        this.#holding(bytes, address => this.#call('maeum_recognize', recognizer, address, bytes.byteLength, text)),
      ),
    );
  }

  /** Recognises mono samples: `Int16Array`, or `Float32Array` with full scale 1. */
  recognizeSamples(recognizer, samples, rate, options) {
    return this.#guarded(() =>
      this.#withOptions(options, text =>
        this.#holding(samples, address =>
          samples instanceof Int16Array
            ? this.#call('maeum_recognize_pcm16', recognizer, address, samples.length, rate, text)
            : this.#call('maeum_recognize_float', recognizer, address, samples.length, 1, rate, text),
        ),
      ),
    );
  }

  /** Returns the profile of the speaker of recordings, each `{ bytes, options }`, as JSON text. */
  profile(recognizer, recordings) {
    return this.#guarded(() => {
      const builder = this.#exports.maeum_profile_builder_new();
      try {
        for (const { bytes, options } of recordings) {
          this.#withOptions(options, text =>
            this.#holding(bytes, address =>
              this.#call('maeum_profile_builder_add', builder, recognizer, address, bytes.byteLength, text),
            ),
          );
        }
        return this.#call('maeum_profile_builder_finish', builder, recognizer);
      } finally {
        this.#exports.maeum_profile_builder_free(builder);
      }
    });
  }
}
