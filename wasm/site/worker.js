// Web Worker of the page: the recogniser beside the page's own thread.

import { Recognizer, moduleName } from './index.js';

/** Decodes base64. Engines without the function of the standard get a loop. */
function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const decoded = atob(text);
  const bytes = new Uint8Array(decoded.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = decoded.charCodeAt(i);
  return bytes;
}

/** Returns the bytes of a file that a script holds as text, gzip in base64. A script needs no connection. */
async function unpack(name) {
  const { default: text } = await import(`./${name}.js`);
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const loaded = (async () => {
  const [module, model] = await Promise.all([unpack(moduleName()), unpack('model.safetensors')]);
  return Recognizer.load({ module, model });
})();

const CALLS = {
  model: recognizer => recognizer.model,
  format: (recognizer, { bytes, format, options }) => recognizer.format(bytes, format, options),
  samples: (recognizer, { samples, rate, options }) => recognizer.formatSamples(samples, rate, 'jsonl', options),
  profile: (recognizer, { bytes, ...options }) => `${JSON.stringify(recognizer.profile(bytes, options))}\n`,
};

self.onmessage = async ({ data: { id, name, argument } }) => {
  try {
    self.postMessage({ id, value: await CALLS[name](await loaded, argument) });
  } catch (error) {
    // An error without a code is one of this script or of the engine: the page starts another worker.
    self.postMessage({ id, error: { code: error.code && typeof error.code === 'string' ? error.code : 'crashed', message: error.message } });
  }
};
