// Tests the npm package in Node against the native program:
//   node tests/node.mjs PACKAGE INFER [RECORDING...]
// PACKAGE is the assembled package, INFER the program `infer`. Beside the repository's recordings, the answers for
// the given ones are compared. A failed check throws.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [pack, infer, ...given] = process.argv.slice(2).map(path => resolve(path));
const { Recognizer, RecognitionError, moduleName } = await import(pathToFileURL(join(pack, 'index.js')));
const data = new URL('../../tests/data/', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'maeum-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const recordings = [join(data, 'voice.wav'), ...readdirSync(join(data, 'formats')).map(name => join(data, 'formats', name)), ...given];
for (const path of recordings) if (!path.endsWith('.md')) cpSync(path, join(folder, basename(path)));
const names = readdirSync(folder).sort();

/** Output of the native program in the folder of the recordings. */
function native(...args) {
  const { status, stdout, stderr } = spawnSync(infer, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.ok(status !== null && !stderr.includes('panicked'), stderr);
  return stdout;
}

const read = name => readFileSync(join(folder, name));

/** Compares two long texts and shows the first difference alone. */
function same(got, wanted, what) {
  if (got === wanted) return;
  let at = 0;
  while (got[at] === wanted[at]) at += 1;
  const part = text => JSON.stringify(text.slice(Math.max(0, at - 60), at + 40));
  assert.fail(`${what}: ${part(got)} is not ${part(wanted)}`);
}

/** Runs a call that has to be refused; returns the error. */
function refused(call) {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof RecognitionError, error.stack);
    return error;
  }
  assert.fail('the call was not refused');
}

const tests = {
  answers_are_the_bytes_of_the_native_program(recognizer) {
    let answered = 0;
    for (const name of names) {
      const wanted = native('--format', 'json', name);
      const [record] = JSON.parse(wanted).results;
      if (record.error) {
        const error = refused(() => recognizer.recognize(read(name), { name }));
        assert.deepEqual([error.code, error.message], [record.code, record.error]);
        continue;
      }
      answered += 1;
      same(recognizer.format(read(name), 'json', { name }), wanted, name);
      same(JSON.stringify(recognizer.recognize(read(name), { name })), JSON.stringify(record), name);
    }
    assert.ok(answered > 0);
    console.log(`   ${answered} answers and ${names.length - answered} refusals`);
  },

  every_format_is_written(recognizer) {
    const { formats } = recognizer.model;
    assert.ok(formats.length > 5);
    for (const format of formats) {
      // A label format has one document per file.
      const wanted = native('--format', format, 'voice.wav');
      same(recognizer.format(read('voice.wav'), format, { name: 'voice.wav' }), wanted, format);
    }
  },

  options_are_those_of_the_program(recognizer) {
    const name = 'voice.wav';
    for (const [options, args] of [
      [{ dropout: 'off' }, ['--dropout', 'off']],
      [{ dropout: 3, seed: 7 }, ['--dropout', '3', '--seed', '7']],
      [{ seed: 2n ** 64n - 1n }, ['--seed', String(2n ** 64n - 1n)]],
    ]) {
      same(recognizer.format(read(name), 'jsonl', { name, ...options }), native('--format', 'jsonl', ...args, name), args.join(' '));
    }
    const whole = recognizer.recognize(read(name));
    const later = recognizer.recognize(read(name), { start: 10 });
    assert.equal(later.voice.analysed.end, whole.voice.analysed.end + 10);
    assert.equal(later.timeline[0].start, whole.timeline[0].start + 10);
  },

  samples_are_answered_as_their_file(recognizer) {
    const name = 'voice.wav';
    const file = read(name);
    const rate = file.readUInt32LE(24);
    assert.equal(file.toString('latin1', 36, 40), 'data');
    const samples = new Int16Array(file.buffer.slice(file.byteOffset + 44, file.byteOffset + file.length));
    const wanted = recognizer.format(file, 'jsonl', { name });
    same(recognizer.formatSamples(samples, rate, 'jsonl', { name }), wanted, 'samples');
    const floats = recognizer.recognizeSamples(Float32Array.from(samples, s => s / 32768), rate, { name });
    assert.deepEqual(floats.emotions, JSON.parse(wanted).emotions);
  },

  profiles_are_those_of_the_program(recognizer) {
    mkdirSync(join(folder, 'anna'));
    cpSync(join(folder, 'voice.wav'), join(folder, 'anna', 'voice.wav'));
    native('--enroll', 'anna.json', 'anna');
    const wanted = JSON.parse(read('anna.json'));
    const profile = recognizer.profile([read('voice.wav')], { names: ['voice.wav'] });
    same(JSON.stringify(profile), JSON.stringify(wanted), 'profile');
    const answer = recognizer.format(read('voice.wav'), 'json', { name: 'voice.wav', profile });
    same(answer, native('--format', 'json', '--profile', 'anna.json', 'voice.wav'), 'answer with a profile');
    const other = refused(() => recognizer.recognize(read('voice.wav'), { profile: { ...profile, model: '0' } }));
    assert.equal(other.code, 'bad_profile');
    assert.equal(refused(() => recognizer.profile([new Uint8Array(3)])).code, 'unusable_audio');
  },

  bad_input_is_refused_and_leaves_the_recogniser_usable(recognizer) {
    const voice = read('voice.wav');
    for (const [code, call] of [
      ['unusable_audio', () => recognizer.recognize(new Uint8Array())],
      ['unusable_audio', () => recognizer.recognize(Uint8Array.of(1, 2, 3), { name: 'x.wav' })],
      ['too_long', () => recognizer.recognize(voice, { maxSeconds: 1 })],
      ['bad_request', () => recognizer.format(voice, 'xml')],
      ['bad_request', () => recognizer.recognize(voice, { dropout: 0 })],
      ['bad_request', () => recognizer.recognize(voice, { seed: 0.5 })],
      ['bad_request', () => recognizer.recognize(voice, { colour: 1 })],
      ['bad_request', () => recognizer.recognize('voice.wav')],
      ['bad_request', () => recognizer.recognizeSamples([0], 8000)],
      ['unusable_audio', () => recognizer.recognizeSamples(new Float32Array([NaN]), 8000)],
      ['unusable_audio', () => recognizer.recognizeSamples(new Int16Array(9), 1)],
      ['no_speech', () => recognizer.recognizeSamples(noise(3 * 16000), 16000)],
    ]) {
      const error = refused(call);
      assert.equal(error.code, code, error.message);
      assert.ok(error.message.length > 10, error.message);
    }
    assert.match(refused(() => recognizer.recognize(Uint8Array.of(1, 2, 3), { name: 'x.wav' })).message, /x\.wav/);
    same(recognizer.format(voice, 'json', { name: 'voice.wav' }), native('--format', 'json', 'voice.wav'), 'after refusals');
  },

  memory_does_not_grow_with_calls(recognizer) {
    const voice = read('voice.wav');
    recognizer.recognize(voice);
    const before = recognizer.memoryBytes;
    for (let i = 0; i < 20; i++) {
      recognizer.recognize(voice);
      refused(() => recognizer.recognize(voice.subarray(0, 50)));
    }
    assert.equal(recognizer.memoryBytes, before);
    console.log(`   ${(before / 2 ** 20).toFixed(1)} MiB`);
  },
};

/** White noise, always the same. */
function noise(count) {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 33 - 0.25;
  });
}

const started = performance.now();
const recognizer = await Recognizer.load();
console.log(`${moduleName()}, loaded in ${(performance.now() - started).toFixed(0)} ms`);
for (const [name, test] of Object.entries(tests)) {
  test(recognizer);
  console.log(`ok ${name}`);
}

// Bundles of others, and use after the end.
const bundle = readFileSync(join(pack, 'model.safetensors'));
const error = await Recognizer.load({ model: bundle.subarray(0, 1000) }).then(() => null, error => error);
assert.equal(error?.code, 'bad_model', error?.message);
assert.equal((await Recognizer.load({ model: new Uint8Array() }).catch(error => error)).code, 'bad_model');
recognizer.close();
assert.equal(refused(() => recognizer.recognize(read('voice.wav'))).code, 'bad_request');
console.log('ok bundles_and_closing');

// The module that this engine does not choose answers alike where it can be compiled, also without a fused instruction.
for (const name of ['maeum.wasm', 'maeum-relaxed.wasm']) {
  const bytes = readFileSync(join(pack, name));
  if (!WebAssembly.validate(bytes)) continue;
  const other = await Recognizer.load({ module: bytes });
  same(other.format(read('voice.wav'), 'json', { name: 'voice.wav' }), native('--format', 'json', 'voice.wav'), name);
  console.log(`ok ${name} answers_as_the_program`);
}

// A trap ends the instance, and that is said: an address outside of the memory.
const { Engine } = await import(pathToFileURL(join(pack, 'engine.js')));
const engine = await Engine.create(await WebAssembly.compile(readFileSync(join(pack, moduleName()))));
for (let i = 0; i < 2; i++) {
  const crash = refused(() => engine.recognize(0xfffffff0, new Uint8Array(8), '{}'));
  assert.equal(crash.code, 'crashed');
  assert.match(crash.message, /loaded again/);
}
console.log('ok a_trap_is_said');

// Time of 6 s of speech: the voice with its own beginning again.
const again = await Recognizer.load();
const voice = read('voice.wav');
const rate = voice.readUInt32LE(24);
const spoken = new Int16Array(voice.buffer.slice(voice.byteOffset + 44, voice.byteOffset + voice.length));
const samples = Int16Array.from({ length: 6 * rate }, (_, i) => spoken[i % spoken.length]);
// Processor time, which the load of the machine does not change; the first call also compiles.
const times = [];
for (let i = 0; i < 9; i++) {
  const before = process.cpuUsage();
  again.recognizeSamples(samples, rate);
  const { user, system } = process.cpuUsage(before);
  times.push((user + system) / 1000);
}
const first = times[0];
console.log(`6 s of speech: first ${first.toFixed(0)} ms, median ${times.sort((a, b) => a - b)[4].toFixed(0)} ms of processor time`);
