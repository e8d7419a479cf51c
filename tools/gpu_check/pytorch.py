"""Times the window network of 2020 in PyTorch on the first GPU, eager and compiled.

Random weights, in float32 without TF32, from the GPU's memory to the GPU's memory. The LSTM is
written out: PyTorch's own has no hard sigmoid. Prints a table in Markdown.
"""

import statistics
import sys
import time

import torch
from torch import nn

COUNTS = (1, 64, 1024, 16384)
RUNS = 7


class WindowNetwork(nn.Module):
    def __init__(self, outputs=7):
        super().__init__()
        sizes = ((1, 8), (8, 16), (16, 32))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 5, padding=2) for i, o in sizes)
        self.input = nn.Linear(160, 256)
        self.recurrent = nn.Linear(64, 256, bias=False)
        self.attention = nn.Linear(25, 25)
        self.output = nn.Linear(64, outputs)

    def forward(self, x):
        for convolution in self.convolutions:
            x = nn.functional.max_pool2d(torch.relu(convolution(x)), 2)
        # Windows, channels, time, bands: a vector per time step.
        x = self.input(x.permute(0, 2, 3, 1).flatten(2))
        hidden = cell = x.new_zeros(x.shape[0], 64)
        steps = []
        for step in range(x.shape[1]):
            i, f, c, o = (x[:, step] + self.recurrent(hidden)).chunk(4, dim=1)
            i, f, o = (torch.clamp(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
            cell = f * cell + i * torch.tanh(c)
            hidden = o * torch.tanh(cell)
            steps.append(hidden)
        sequence = torch.stack(steps, dim=2)
        weights = torch.softmax(self.attention(sequence), dim=2)
        return torch.softmax(self.output((sequence * weights).sum(dim=2)), dim=1)


def rate(network, count):
    x = torch.rand(count, 1, 200, 40, device="cuda")
    times = []
    for run in range(RUNS + 3):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        network(x)
        torch.cuda.synchronize()
        # The first runs compile and choose.
        if run >= 3:
            times.append(time.perf_counter() - begin)
    return count / statistics.median(times)


def main():
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    network = WindowNetwork().cuda().eval()
    compiled = torch.compile(network)
    print(f"### PyTorch {torch.__version__} on the same card, the same network\n")
    print("| windows | eager | compiled |\n|---|---|---|")
    with torch.inference_mode():
        for count in COUNTS:
            try:
                fast = f"{rate(compiled, count):.0f}/s"
            except Exception as error:  # compiling needs a C compiler and Triton
                fast = f"failed: {type(error).__name__}"
            print(f"| {count} | {rate(network, count):.0f}/s | {fast} |")
    print()


if __name__ == "__main__":
    main()
