"""Convolutions whose bits depend on neither the number of threads nor the processor. Float32.

A stack of 3 x 3 convolutions of stride 2, each followed by tanh, down to one pixel. On the CPU every number of a
result is one chain of fused multiply-adds: an output over rows, columns and channels of its patch, from the bias on; a
gradient of an input over places of the kernel and channels of the outputs; a gradient of a weight over drawings, rows
and columns. The blocking changes no chain, so it is free to differ between processors.

Drawings lie in memory with all that is computed of them: (pixels, channels) of each layer, one behind the other. The
rows of a tile in registers are ROWS drawings at the same place, its columns are channels.
"""

from collections.abc import Sequence

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numba.core.codegen import get_host_cpu_features
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffplast.plasticity.jit import kernel, part
from diffplast.plasticity.simd import LANES, fma, load, spread, spread_rows, store, tanh, zeros
from diffplast.plasticity.threads import run_team

# Channels are padded with zeros to a multiple of WIDTH, drawings to one of ROWS: the same on every processor.
WIDTH, ROWS = 64, 6
VECTORS = WIDTH // LANES

_features = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
# Vectors in a row of a tile, so that registers hold it: 32 of them of 64 bytes, or 16 of 32.
TILE = VECTORS if "+avx512f" in _features else 1

# Numbers of a patch that are multiplied at a time: their weights lie in the first-level cache.
DEPTH = 96

# Drawings whose gradients are added to the weights' at a time: those of a layer lie in the first-level cache.
PIECE = 4


def naive(drawings: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """What `convolutions` gives, in torch, on any device."""
    x = drawings[:, None]
    for weight, bias in zip(weights, biases, strict=True):
        x = torch.tanh(F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride=2))
    return x.flatten(1)


def convolutions(drawings: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Features (D, F) of drawings (D, side, side), which get no gradient.

    weights: (3, 3, 1, F), then (3, 3, F, F); biases (F,): of layers that leave one pixel of a drawing.
    On the CPU with fixed bits. Raises ValueError where the layers leave more than a pixel, or less.
    """
    if drawings.shape[1:] != 2 * (2 ** (len(weights) + 1) - 1,):
        raise ValueError(f"{len(weights)} layers do not make one pixel of drawings of shape {drawings.shape[1:]}")
    if drawings.device.type != "cpu":
        return naive(drawings, weights, biases)
    return _Convolutions.apply(drawings, len(weights), *weights, *biases)


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(ctx, drawings, count, *parameters):
        weights, biases = parameters[:count], parameters[count:]
        number, side, features = len(drawings), drawings.shape[-1], weights[0].shape[-1]
        width = -(-features // WIDTH) * WIDTH
        layers, numbers, length = _layout(side, width, count)
        memory = np.empty((-(-number // ROWS) * ROWS, numbers), np.float32)
        memory[:number, : side * side] = drawings.flatten(1).numpy()
        memory[number:, : side * side] = 0
        packed = _packed(layers, width, length, weights, biases)
        _shared(len(memory) // ROWS, lambda rank, size: forward(rank, size, layers, width, memory, packed))
        ctx.kept = number, layers, width, memory, packed
        return torch.from_numpy(memory[:number, numbers - width :][:, :features].copy())

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        number, layers, width, memory, packed = ctx.kept
        features = cotangent.shape[1]
        gradients = np.empty_like(memory)
        last = gradients[:, -width:]
        last[...] = 0
        last[:number, :features] = cotangent.numpy()
        transposed, found = np.empty_like(packed), np.empty_like(packed)
        transpose(layers, width, packed, transposed)
        groups = len(memory) // ROWS
        _shared(groups, lambda rank, size: backward(rank, size, layers, width, memory, gradients, transposed))
        _shared(
            groups, lambda rank, size: weight_gradients(rank, size, number, layers, width, memory, gradients, found)
        )
        weights, biases = [], []
        for _, channels, _, _, weight, bias in layers:
            real = min(channels, features)
            matrices = torch.from_numpy(found[weight:bias].reshape(3, 3, channels, width))
            weights.append(matrices[:, :, :real, :features])
            biases.append(torch.from_numpy(found[bias : bias + features]))
        return None, None, *weights, *biases


def _shared(groups, function):
    size = min(torch.get_num_threads(), groups)
    run_team(size, lambda rank: function(rank, size))


def _layout(side, width, count):
    """(layers, 6) integers, numbers of a drawing, numbers of all parameters.

    Of each layer: side and channels of its input; where its input, output, weight and bias begin.
    """
    rows, channels, below, weight = [], 1, 0, 0
    above = -(-side * side // LANES) * LANES
    for _ in range(count):
        bias = weight + 9 * channels * width
        rows.append((side, channels, below, above, weight, bias))
        side = (side - 1) // 2
        below, above, weight, channels = above, above + side * side * width, bias + width, width
    return np.array(rows), above, weight


def _packed(layers, width, length, weights, biases):
    """All parameters, one behind the other, as the compiled loops read them."""
    packed = np.zeros(length, np.float32)
    for (_, channels, _, _, at, end), weight, bias in zip(layers, weights, biases, strict=True):
        _, _, real, features = weight.shape
        packed[at:end].reshape(3, 3, channels, width)[:, :, :real, :features] = weight.detach().numpy()
        packed[end : end + features] = bias.detach().numpy()
    return packed


@kernel
def forward(rank, size, layers, width, drawings, parameters):
    """Fill in the outputs of all layers for every `size`-th group of ROWS drawings, from number `rank` on.

    layers: see `_layout`. drawings (D, numbers of a drawing): the first layer's input is given.
    """
    stride = drawings.shape[1]
    for group in range(rank, drawings.shape[0] // ROWS, size):
        for number in range(layers.shape[0]):
            _forward_layer(layers[number], width, stride, group * ROWS * stride, drawings, parameters)


@part
def _forward_layer(layer, width, stride, at, drawings, parameters):
    """Outputs of a layer for ROWS drawings, the first of which begins at `at`."""
    side, channels = layer[0], layer[1]
    below, above, weights, bias = at + layer[2], at + layer[3], layer[4], layer[5]
    out = (side - 1) // 2
    for ky in range(3):
        for first in range(0, 3 * channels, DEPTH):
            last = min(first + DEPTH, 3 * channels)
            for column in range(0, width, TILE * LANES):
                for pixel in range(out * out):
                    place = above + pixel * width + column
                    patch = below + ((2 * (pixel // out) + ky) * side + 2 * (pixel % out)) * channels
                    if ky == 0 and first == 0:
                        total = load(parameters, bias + column, 0, ROWS, TILE)
                    else:
                        total = load(drawings, place, stride, ROWS, TILE)
                    row = weights + (ky * 3 * channels + first) * width + column
                    for k in range(first, last):
                        total = fma(
                            spread_rows(drawings, patch + k, stride, ROWS), load(parameters, row, 0, 1, TILE), total
                        )
                        row += width
                    store(drawings, place, stride, total)
    for drawing in range(ROWS):
        begin = above + drawing * stride
        for place in range(begin, begin + out * out * width, WIDTH):
            store(drawings, place, 0, tanh(load(drawings, place, 0, 1, VECTORS)))


@kernel
def transpose(layers, width, parameters, transposed):
    """Fill in the weights of all layers but the first, the matrix of each place of the kernel transposed."""
    for number in range(1, layers.shape[0]):
        for begin in range(layers[number, 4], layers[number, 5], width * width):
            for row in range(width):
                for column in range(width):
                    transposed[begin + row * width + column] = parameters[begin + column * width + row]


@kernel
def backward(rank, size, layers, width, drawings, gradients, transposed):
    """Fill in the gradients of all layers' outputs before tanh, for every `size`-th group from number `rank` on.

    gradients: as `drawings`; those of the last layer's outputs are given. transposed: see `transpose`.
    """
    stride = drawings.shape[1]
    for group in range(rank, drawings.shape[0] // ROWS, size):
        at = group * ROWS * stride
        for number in range(layers.shape[0] - 1, -1, -1):
            out = (layers[number, 0] - 1) // 2
            for drawing in range(ROWS):
                begin = at + drawing * stride + layers[number, 3]
                _through_tanh(begin, out * out * width, drawings, gradients)
            if number > 0:
                _backward_layer(layers[number], width, stride, at, gradients, transposed)


@part
def _through_tanh(begin, count, drawings, gradients):
    """gradients *= 1 - drawings**2, for `count` numbers."""
    for place in range(begin, begin + count, WIDTH):
        y = load(drawings, place, 0, 1, VECTORS)
        slope = fma(0 - y, y, zeros(drawings, 1, VECTORS) + 1)
        store(gradients, place, 0, load(gradients, place, 0, 1, VECTORS) * slope)


@part
def _backward_layer(layer, width, stride, at, gradients, transposed):
    """Gradients of a layer's input for ROWS drawings, from those of its output before tanh."""
    side = layer[0]
    below, above, weights = at + layer[2], at + layer[3], layer[4]
    out = (side - 1) // 2
    for drawing in range(ROWS):
        begin = below + drawing * stride
        for place in range(begin, begin + side * side * width, WIDTH):
            store(gradients, place, 0, zeros(gradients, 1, VECTORS))
    for tap in range(9):
        for column in range(0, width, TILE * LANES):
            for pixel in range(out * out):
                y, x = 2 * (pixel // out) + tap // 3, 2 * (pixel % out) + tap % 3
                place, output = below + (y * side + x) * width + column, above + pixel * width
                total = load(gradients, place, stride, ROWS, TILE)
                row = weights + tap * width * width + column
                for k in range(width):
                    total = fma(
                        spread_rows(gradients, output + k, stride, ROWS), load(transposed, row, 0, 1, TILE), total
                    )
                    row += width
                store(gradients, place, stride, total)


@kernel
def weight_gradients(rank, size, count, layers, width, drawings, gradients, parameters):
    """Fill in one member's share of the gradients of weights and biases, from the first `count` drawings.

    parameters: receives the gradients.
    """
    stride = drawings.shape[1]
    for number in range(layers.shape[0]):
        layer = layers[number]
        for first in range(0, count, PIECE):
            last = min(first + PIECE, count)
            # The rows of a tile are neighbours in a row of a patch, which has 3 numbers, or 3 * width.
            if layer[1] == 1:
                _three_rows((rank, size), first, last, layer, width, drawings, gradients, parameters)
            else:
                _six_rows((rank, size), first, last, layer, width, drawings, gradients, parameters)
        if rank == size - 1:
            out = (layer[0] - 1) // 2
            for column in range(0, width, WIDTH):
                total = zeros(parameters, 1, VECTORS)
                for drawing in range(count):
                    begin = drawing * stride + layer[3] + column
                    for place in range(begin, begin + out * out * width, width):
                        total = total + load(gradients, place, 0, 1, VECTORS)
                store(parameters, layer[5] + column, 0, total)


def _rows_gradient(rows):
    """The function that adds the drawings first..last to a weight's gradient, tiles of `rows` rows at a time."""

    @part
    def add(team, first, last, layer, width, drawings, gradients, parameters):
        (rank, size), stride = team, drawings.shape[1]
        side, channels = layer[0], layer[1]
        out, long = (side - 1) // 2, 3 * channels
        tiles = 3 * long // rows
        for tile in range(tiles * rank // size, tiles * (rank + 1) // size):
            ky, k = tile * rows // long, tile * rows % long
            for column in range(0, width, TILE * LANES):
                place = layer[4] + tile * rows * width + column
                total = zeros(parameters, rows, TILE)
                if first > 0:
                    total = load(parameters, place, width, rows, TILE)
                for drawing in range(first, last):
                    output = drawing * stride + layer[3] + column
                    for y in range(out):
                        patch = drawing * stride + layer[2] + (2 * y + ky) * side * channels + k
                        for _ in range(out):
                            gradient = load(gradients, output, 0, 1, TILE)
                            total = fma(spread(drawings, patch, rows), gradient, total)
                            patch += 2 * channels
                            output += width
                store(parameters, place, width, total)

    return add


_three_rows, _six_rows = _rows_gradient(3), _rows_gradient(6)
