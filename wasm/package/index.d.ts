/** A recording: the content of an audio file of any supported format. */
export type Bytes = Uint8Array | ArrayBuffer;

/** Refused call. The message names the recording or option and says what to do. */
export declare class RecognitionError extends Error {
  /**
   * `bad_request`, `unusable_audio`, `too_long`, `no_speech`, `bad_model`, `bad_profile`, `internal`,
   * `out_of_memory`, `unreadable`, or `crashed`: the recogniser has to be loaded again.
   */
  readonly code: string;
  constructor(code: string, message: string);
}

/** Name of the module for this engine: with relaxed SIMD or without. Answers do not depend on it. */
export declare function moduleName(): 'maeum-relaxed.wasm' | 'maeum.wasm';

export interface Options {
  /** Name of the recording in answers and messages. */
  name?: string;
  /** Draws of forced dropout from 1 to 1024, or `"off"`. */
  dropout?: number | 'off';
  /** Seed of the draws; 0 if missing. */
  seed?: number | bigint;
  /** Profile of the speaker, which emotions are then relative to. */
  profile?: Profile;
  /** Channel of a file to analyse, from 1; the mean of all channels if missing. */
  channel?: number;
  /** Longest recording that is accepted. */
  maxSeconds?: number;
  /** Seconds that are added to all times, for a part of a longer recording. */
  start?: number;
}

export type Format =
  | 'table' | 'json' | 'jsonl' | 'csv' | 'excel-csv' | 'codes' | 'textgrid' | 'audacity' | 'rttm' | 'svg';

export interface Estimate { mean: number; std: number }
export interface Span { start: number; end: number }
export interface Interval { low: number; high: number; coverage: number }

/** Speaker profile; personal data. Its fields are not part of the interface. */
export interface Profile { readonly [field: string]: unknown }

/** Answer for one recording. docs/json.md describes every field. */
export interface Answer {
  file: string;
  emotions: Record<string, Estimate>;
  strongest: string;
  age: {
    years: number;
    spread: number | null;
    typical_error: number | null;
    group: string;
    interval: Interval | null;
  };
  gender: Record<string, number>;
  voice: {
    duration: number;
    voiced: number;
    analysed: Span;
    speech: Span[];
    [field: string]: unknown;
  };
  timeline: (Span & { emotions: Record<string, number>; [field: string]: unknown })[];
  segments: (Span & {
    voiced: number;
    emotions: Record<string, Estimate>;
    strongest: string;
    age: { years: number; interval: Interval | null };
    gender: Record<string, number>;
    confidence: number;
  })[];
  speaker: { recordings: number; seconds: number } | null;
  model: { name: string; [field: string]: unknown };
  dropout: { mode: string; draws?: number; seed?: number };
  warnings: { message: string; [field: string]: unknown }[];
  notice: string;
}

/** Description of a model. */
export interface Model {
  name: string;
  sha256: string;
  emotions: string[];
  genders: string[];
  licences: { estimates: string[]; licence: string; terms: string }[];
  speaker_profiles: boolean;
  formats: Format[];
  notice: string;
}

/** A model prepared for recognition. Calls are synchronous: in a page, use it in a Web Worker. */
export declare class Recognizer {
  private constructor();
  /** Loads the module and the built-in model, or the given ones. */
  static load(given?: { module?: WebAssembly.Module | BufferSource; model?: Bytes }): Promise<Recognizer>;
  /** Version of the library. */
  readonly version: string;
  /** Description of the model. */
  readonly model: Model;
  /** Size of the module's memory in bytes. */
  readonly memoryBytes: number;
  /** Recognises the content of an audio file. */
  recognize(recording: Bytes, options?: Options): Answer;
  /** Recognises mono samples: `Float32Array` with full scale 1, or `Int16Array`. */
  recognizeSamples(samples: Float32Array | Int16Array, sampleRate: number, options?: Options): Answer;
  /** The answer as text: the bytes that the program `infer` prints. */
  format(recording: Bytes, format: Format, options?: Options): string;
  /** As `format`, for samples. */
  formatSamples(samples: Float32Array | Int16Array, sampleRate: number, format: Format, options?: Options): string;
  /** Returns the profile of the one speaker of recordings, for the option `profile`. It is personal data. */
  profile(recordings: Iterable<Bytes>, options?: { names?: string[]; maxSeconds?: number }): Profile;
  /** Frees the model's memory. */
  close(): void;
}
