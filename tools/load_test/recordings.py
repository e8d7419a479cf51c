"""Recordings of any length, made from one recording."""

import io
import wave


def samples(path):
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise SystemExit(f"{path}: give a mono WAV file of 16 bits")
        return file.getframerate(), file.readframes(file.getnframes())


def wav(rate, data):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data)
    return out.getvalue()


def voice(path, seconds, shift=0.0):
    """Returns the recording, repeated to `seconds` and started `shift` seconds later."""
    rate, data = samples(path)
    start = 2 * int(shift * rate) % len(data)
    wanted = 2 * int(seconds * rate)
    turned = data[start:] + data[:start]
    return wav(rate, (turned * (wanted // len(turned) + 1))[:wanted])


def silence(rate, seconds):
    return wav(rate, bytes(2 * rate * seconds))
