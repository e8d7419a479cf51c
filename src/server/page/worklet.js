// Sends the microphone's samples, mixed to one channel, to the page.

const FRAMES = 2048;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(FRAMES);
    this.filled = 0;
    this.ended = false;
    this.port.onmessage = () => {
      this.ended = true;
      this.post(this.block.slice(0, this.filled));
      this.port.postMessage(null);
    };
  }

  post(samples) {
    this.port.postMessage(samples, [samples.buffer]);
  }

  process([channels]) {
    if (this.ended) return false;
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.filled++] = sum / channels.length;
      if (this.filled === FRAMES) {
        this.post(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor('capture', Capture);
