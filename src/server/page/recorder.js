// Microphone recorder: 16-bit samples at the device's rate, streamed during the recording.

import * as api from './api.js';
import { quantise, wav } from './sound.js';

/** Unsent bytes above which the connection counts as too slow and is closed. */
const BACKLOG = 8 << 20;
const FINAL_PATIENCE = 60_000;

export class Recorder {
  /**
   * @param profile speaker profile as text, or `null`.
   * @param on callbacks: `level(peak, seconds)` per block, `interim(message)`, and `ended()` when the
   * microphone disconnects or the maximum duration is reached.
   */
  constructor(name, seconds, profile, on) {
    Object.assign(this, { name, longest: seconds, profile, on, blocks: [], frames: 0, waiting: [] });
    this.final = new Promise(resolve => (this.resolve = resolve));
  }

  async start() {
    // Browsers' call processing would change the voice.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.media = await navigator.mediaDevices.getUserMedia({ audio });
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule(new URL('worklet.js', import.meta.url));
      await this.context.resume();
    } catch (error) {
      this.release();
      throw error;
    }
    this.rate = this.context.sampleRate;
    this.node = new AudioWorkletNode(this.context, 'capture', { numberOfOutputs: 0 });
    this.flushed = new Promise(resolve => {
      this.node.port.onmessage = ({ data }) => (data ? this.take(data) : resolve());
    });
    this.context.createMediaStreamSource(this.media).connect(this.node);
    this.media.getAudioTracks()[0].addEventListener('ended', () => this.on.ended());
    this.connect();
  }

  /** Opens the stream. A WebSocket cannot carry a key; with a key the recording is sent as a file at the end. */
  connect() {
    if (api.hasKey()) return this.resolve(null);
    try {
      this.socket = api.stream();
    } catch {
      return this.resolve(null);
    }
    this.socket.onopen = () => {
      const profile = this.profile ? { profile: JSON.parse(this.profile) } : {};
      this.socket.send(JSON.stringify({ sample_rate: this.rate, encoding: 's16le', name: this.name, ...profile }));
      for (const block of this.waiting.splice(0)) this.socket.send(block);
    };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'interim') this.on.interim(message);
      else this.resolve({ ...message, text: data });
    };
    this.socket.onclose = () => this.resolve(null);
    this.socket.onerror = () => this.resolve(null);
  }

  take(samples) {
    const block = quantise(samples);
    if (!block.length) return;
    this.blocks.push(block);
    this.frames += block.length;
    const open = this.socket?.readyState;
    if (open === WebSocket.CONNECTING) this.waiting.push(block);
    else if (open === WebSocket.OPEN) {
      if (this.socket.bufferedAmount > BACKLOG) this.socket.close();
      else this.socket.send(block);
    }
    this.on.level(samples.reduce((top, x) => Math.max(top, Math.abs(x)), 0), this.frames / this.rate);
    if (this.frames / this.rate >= this.longest - 1) this.on.ended();
  }

  /** Ends the recording; returns its file and the stream's last message, or `null` without one. */
  async stop() {
    this.node.port.postMessage('end');
    await Promise.race([this.flushed, new Promise(done => setTimeout(done, 1000))]);
    this.release();
    const file = wav(this.blocks, this.rate);
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type: 'end' }));
      setTimeout(() => this.resolve(null), FINAL_PATIENCE);
    } else this.resolve(null);
    const final = await this.final;
    this.socket?.close();
    return { file, final };
  }

  release() {
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.context?.close();
  }
}
