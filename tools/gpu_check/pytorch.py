"""Times the window networks of 2020 in PyTorch on the first GPU, eager and compiled.

    python3 pytorch.py RATES.csv

Random weights, in float32 without TF32, from the GPU's memory to the GPU's memory, by CUDA's events. The
LSTM is written out: PyTorch's own has no hard sigmoid. Appends a line to the file for each network
and number of windows: its name, windows, and windows a second eager and compiled. Prints what it is
in Markdown.
"""

import statistics
import sys

import torch
from torch import nn

# Channels of the convolutions, units of the LSTM, outputs and what is done to them.
NETWORKS = {
    "arch_emotion_windows": ((8, 16, 32), 64, 7, lambda x: torch.softmax(x, dim=1)),
    "arch_age": ((4, 8, 12), 20, 1, lambda x: x),
}
# The one that counts most comes first: compiling takes long.
COUNTS = (1024, 64, 1, 16384)
RUNS = 7


class WindowNetwork(nn.Module):
    def __init__(self, channels, units, outputs, finish):
        super().__init__()
        sizes = zip((1, *channels), channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 5, padding=2) for i, o in sizes)
        # Three halvings leave 25 time steps of 5 bands.
        self.input = nn.Linear(5 * channels[-1], 4 * units)
        self.recurrent = nn.Linear(units, 4 * units, bias=False)
        self.attention = nn.Linear(25, 25)
        self.output = nn.Linear(units, outputs)
        self.units, self.finish = units, finish

    def forward(self, x):
        for convolution in self.convolutions:
            x = nn.functional.max_pool2d(torch.relu(convolution(x)), 2)
        # Windows, channels, time, bands: a vector per time step.
        x = self.input(x.permute(0, 2, 3, 1).flatten(2))
        hidden = cell = x.new_zeros(x.shape[0], self.units)
        steps = []
        for step in range(x.shape[1]):
            i, f, c, o = (x[:, step] + self.recurrent(hidden)).chunk(4, dim=1)
            i, f, o = (torch.clamp(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
            cell = f * cell + i * torch.tanh(c)
            hidden = o * torch.tanh(cell)
            steps.append(hidden)
        sequence = torch.stack(steps, dim=2)
        weights = torch.softmax(self.attention(sequence), dim=2)
        return self.finish(self.output((sequence * weights).sum(dim=2)))


def rate(network, count):
    """Windows a second."""
    x = torch.rand(count, 1, 200, 40, device="cuda")
    times = []
    for run in range(RUNS + 3):
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        network(x)
        end.record()
        end.synchronize()
        # The first runs compile and choose.
        if run >= 3:
            times.append(begin.elapsed_time(end) / 1e3)
    return count / statistics.median(times)


def tried(network, count):
    """Windows a second, or what is wrong."""
    try:
        return f"{rate(network, count):.0f}"
    except Exception as error:  # compiling needs a C compiler and Triton
        return f"failed: {type(error).__name__}"


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} RATES.csv")
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(f"### PyTorch\n\n{torch.__version__}, in float32 without TF32, on the same card.\n")
    print("| network | windows | eager | compiled |\n|---|---|---|---|")
    with torch.inference_mode(), open(sys.argv[1], "a", encoding="utf-8") as file:
        for name, parts in NETWORKS.items():
            network = WindowNetwork(*parts).cuda().eval()
            # A program for each number of windows.
            compiled = torch.compile(network, dynamic=False)
            for count in COUNTS:
                eager, fast = tried(network, count), tried(compiled, count)
                print(f"| {name.removeprefix('arch_').replace('_', ' ')} | {count} | {eager} | {fast} |", flush=True)
                print(f"{name},{count},{eager},{fast}", file=file, flush=True)
    print()


if __name__ == "__main__":
    main()
