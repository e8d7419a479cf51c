"""Measures the networks of 2020 in PyTorch on the first GPU, eager and compiled.

    python3 pytorch.py RATES.csv
    python3 pytorch.py --device cpu --rows 1,2 RATES.csv    # smoke test

Weights are random, dropout is off, arithmetic is float32 without TF32. Times are from GPU memory to GPU
memory by CUDA events, or by the clock on the CPU. The LSTM is written out, because PyTorch's own has no
hard sigmoid. A row is a window, or a recording for the feature network. The script appends a line per
network and batch size to the file: name, rows, and rows per second eager and compiled. It prints its
environment as Markdown. pytorch_check.py compares the outputs with Keras and the original.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

# The most important batch size comes first, because compiling takes long.
ROWS = (1024, 64, 1, 16384)
RUNS = 7


def softmax(x):
    return torch.softmax(x, dim=1)


class WindowNetwork(nn.Module):
    """Window network: windows x 1 x 200 time steps x 40 bands to windows x outputs."""

    shapes = ((1, 200, 40),)

    def __init__(self, channels, units, outputs, finish):
        super().__init__()
        sizes = zip((1, *channels), channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 5, padding=2) for i, o in sizes)
        # Three poolings leave 25 time steps of 5 bands.
        self.input = nn.Linear(5 * channels[-1], 4 * units)
        self.recurrent = nn.Linear(units, 4 * units, bias=False)
        self.attention = nn.Linear(25, 25)
        self.output = nn.Linear(units, outputs)
        self.units, self.finish = units, finish

    def forward(self, x):
        for convolution in self.convolutions:
            x = functional.max_pool2d(torch.relu(convolution(x)), 2)
        # From windows, channels, time, bands to one vector per time step.
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


def upsampling(side, scale):
    """Returns TensorFlow 1's bilinear upsampling of a side, as a (side * scale) x side matrix."""
    at = torch.arange(side * scale)
    low, part = at // scale, at % scale / scale
    matrix = torch.zeros(side * scale, side)
    matrix[at, low] += 1 - part
    matrix[at, (low + 1).clamp(max=side - 1)] += part
    return matrix


def block(inputs, outputs):
    """Returns a block that halves both sides. Batch normalisation follows the ReLU, so it cannot be folded."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(outputs, eps=1e-3), nn.MaxPool2d(2))


class Branch(nn.Module):
    """Branch for one kind of features, rows x 1 x 40 x width."""

    def __init__(self, width, scale, channels):
        super().__init__()
        first, second, third = channels
        # Size of the attention map, before and after upsampling.
        high, wide = 20 // scale, width // 2 // scale
        self.size = (1, 20, width // 2)
        self.trunk = block(1, first)
        self.spatial = nn.Sequential(
            nn.AvgPool2d(scale), nn.Flatten(), nn.Linear(4 * high * wide, high * wide), nn.ReLU()
        )
        # Upsampling is linear, so one product covers both sides.
        matrix = torch.kron(upsampling(high, scale), upsampling(wide, scale))
        self.register_buffer("upsampling", matrix, persistent=False)
        self.body = nn.Sequential(
            block(first, second),
            block(second, third),
            nn.Flatten(),
            nn.Linear(third * 5 * (width // 8), 16),
            nn.ReLU(),
            nn.Linear(16, 16),
            nn.ReLU(),
        )
        self.channel = nn.Sequential(nn.Linear(7, first), nn.ReLU(), nn.Linear(first, first), nn.ReLU())
        self.output = nn.Linear(16, 7)

    def bottom_up(self, x):
        weights = functional.linear(self.spatial(x), self.upsampling)
        return self.trunk(x) * weights.unflatten(1, self.size)

    def top_down(self, x, total):
        return x * self.channel(total)[:, :, None, None]


class FeaturesNetwork(nn.Module):
    """Feature network: DCT, DST, histogram and moments to the logits of each branch and of all, rows x 7."""

    shapes = ((1, 40, 40),) * 3 + ((1, 40, 8),)

    def __init__(self, channels):
        super().__init__()
        sizes = ((40, 5), (40, 5), (40, 5), (8, 4))
        self.branches = nn.ModuleList(Branch(width, scale, channels) for width, scale in sizes)
        self.total = nn.Linear(4 * 7, 7)

    def logits(self, maps):
        each = [branch.output(branch.body(x)) for branch, x in zip(self.branches, maps)]
        return [*each, self.total(torch.cat(each, dim=1))]

    def forward(self, *inputs):
        maps = [branch.bottom_up(x) for branch, x in zip(self.branches, inputs)]
        total = self.logits(maps)[-1]
        maps = [branch.top_down(x, total) for branch, x in zip(self.branches, maps)]
        return [softmax(x) for x in self.logits(maps)]


# Sizes of the networks in the files of these names in tests/golden.
NETWORKS = {
    "arch_emotion_windows": lambda: WindowNetwork((8, 16, 32), 64, 7, softmax),
    "arch_emotion_features": lambda: FeaturesNetwork((8, 12, 16)),
    "arch_age": lambda: WindowNetwork((4, 8, 12), 20, 1, nn.Identity()),
    "arch_gender": lambda: WindowNetwork((4, 8, 12), 20, 2, torch.sigmoid),
}


def seconds(network, inputs):
    if inputs[0].device.type == "cpu":
        begin = time.perf_counter()
        network(*inputs)
        return time.perf_counter() - begin
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    network(*inputs)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def rate(network, inputs):
    """Returns rows per second, or the error."""
    try:
        # The first runs compile and select algorithms.
        times = [seconds(network, inputs) for _ in range(3 + RUNS)][3:]
    except Exception as error:  # compiling needs a C compiler and Triton
        return f"failed: {type(error).__name__}"
    return f"{len(inputs[0]) / statistics.median(times):.0f}"


def main():
    parser = argparse.ArgumentParser(description="Times the networks of 2020 in PyTorch.")
    parser.add_argument("rates", metavar="RATES.csv")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=ROWS)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "PyTorch sees no GPU\n")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    place = {"cuda": "the same card", "cpu": f"{torch.get_num_threads()} threads of the CPU"}[device]
    print(f"### PyTorch\n\n{torch.__version__}, in float32 without TF32, on {place}; rows a second.\n")
    print("| network | rows | eager | compiled |\n|---|---|---|---|")
    networks = {name: make().to(device).eval() for name, make in NETWORKS.items()}
    with torch.inference_mode(), open(arguments.rates, "a", encoding="utf-8") as file:
        for rows in arguments.rows:
            for name, network in networks.items():
                inputs = [torch.rand(rows, *shape, device=device) for shape in network.shapes]
                # PyTorch compiles a program per batch size and keeps eight per class; without the
                # reset it would run the ninth eagerly.
                torch.compiler.reset()
                compiled = torch.compile(network, dynamic=False, fullgraph=True)
                eager, fast = rate(network, inputs), rate(compiled, inputs)
                print(f"| {name.removeprefix('arch_').replace('_', ' ')} | {rows} | {eager} | {fast} |", flush=True)
                print(f"{name},{rows},{eager},{fast}", file=file, flush=True)
    print()


if __name__ == "__main__":
    main()
