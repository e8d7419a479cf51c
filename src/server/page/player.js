// Player of the decoded recording.

export class Player {
  /** @param moved called with the position in seconds and the playing state, at every frame during playback. */
  constructor(moved) {
    Object.assign(this, { moved, at: 0, source: null });
  }

  load(buffer) {
    this.pause();
    this.buffer = buffer;
    this.seek(0);
  }

  get playing() {
    return this.source !== null;
  }

  position() {
    if (!this.source) return this.at;
    return Math.min(this.buffer.duration, this.at + this.context.currentTime - this.begun);
  }

  async play() {
    if (!this.buffer || this.source) return;
    this.context ??= new AudioContext();
    await this.context.resume();
    if (this.source) return;
    if (this.at >= this.buffer.duration - 0.02) this.at = 0;
    const source = this.context.createBufferSource();
    source.buffer = this.buffer;
    source.connect(this.context.destination);
    source.onended = () => {
      if (this.source !== source) return;
      this.source = null;
      this.at = this.buffer.duration;
      this.moved(this.at, false);
    };
    source.start(0, this.at);
    this.begun = this.context.currentTime;
    this.source = source;
    const frame = () => {
      if (this.source !== source) return;
      this.moved(this.position(), true);
      requestAnimationFrame(frame);
    };
    frame();
  }

  pause() {
    if (!this.source) return;
    this.at = this.position();
    const source = this.source;
    this.source = null;
    source.stop();
    this.moved(this.at, false);
  }

  seek(time) {
    const again = this.playing;
    this.pause();
    this.at = Math.max(0, Math.min(this.buffer?.duration ?? 0, time));
    this.moved(this.at, false);
    if (again) this.play();
  }
}
