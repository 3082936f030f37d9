"""CSTR, STTR and STTR-light as the equations stand: the oracle, and the benchmark's baseline.

Every tensor that an equation names is made, whole: a position for each pair of tokens, each term of
a score, logarithms at every step of the transport. It costs about what the authors' code costs, and
shares no arithmetic with the package; only the containers of the results are the package's.
Sections are those of ../shared/facts/stereo.md. One pair at a time.

Letters  V = 2 views (left, right), h w token grid, E heads, D channels a head; n a sequence,
         t a query, s a key
"""

import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr.stereo.output import StereoOutput
from stereo_tr.stereo.published.losses import PublishedDetails, published_losses

C = 128


class Textbook(nn.Module):
    """The model whose weights are given, written out."""

    def __init__(self, model):
        super().__init__()
        self.heads = model.transformer.across[0].main.attention.heads
        self.layers = len(model.transformer.across)
        self.names = {}
        for name, value in model.named_parameters():
            self._add(name, nn.Parameter(value.detach().clone(), value.requires_grad))
        for name, value in model.named_buffers():
            self._add(name, value.clone())
        self.context = "transformer.across.0.merge.0.weight" in self.names
        self.full_size = "tokenizer.full.0.norm.weight" in self.names

    def _add(self, name, value):
        own = self.names[name] = name.replace(".", "_")
        is_weight = isinstance(value, nn.Parameter)
        (self.register_parameter if is_weight else self.register_buffer)(own, value)

    def get(self, name):
        return getattr(self, self.names[name])

    # 2, 3: features and tokens

    def convolve(self, name, x, stride=1, transposed=False):
        weight = self.get(f"{name}.weight")
        bias = self.get(f"{name}.bias") if f"{name}.bias" in self.names else None
        if transposed:
            return F.conv_transpose2d(x, weight, bias, stride=2)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def batch_norm(self, name, x):
        weight, bias = self.get(f"{name}.weight"), self.get(f"{name}.bias")
        if f"{name}.running_mean" not in self.names:
            return F.batch_norm(x, None, None, weight, bias, training=True)
        running = self.get(f"{name}.running_mean"), self.get(f"{name}.running_var")
        return F.batch_norm(x, *running, weight, bias, training=self.training)

    def convolve_norm(self, name, x, stride=1):
        return self.batch_norm(f"{name}.norm", self.convolve(f"{name}.convolution", x, stride))

    def backbone(self, images):
        x = F.relu(self.convolve_norm("backbone.stem.0", images, 2))
        x = F.relu(self.convolve_norm("backbone.stem.2", x))
        x = F.relu(self.convolve_norm("backbone.stem.4", x))
        maps = []
        for stage in ("quarter", "eighth"):
            for block in range(3):
                name, stride = f"backbone.{stage}.{block}", 2 if block == 0 else 1
                y = F.relu(self.convolve_norm(f"{name}.first", x, stride))
                y = self.convolve_norm(f"{name}.second", y)
                x = self.convolve_norm(f"{name}.shortcut", x, stride) if block == 0 else x
                x = F.relu(y + x)
            maps.append(x)
        size = [-(-side // 2) for side in x.shape[-2:]]
        pooled = []
        for branch, cell in enumerate((16, 8, 4, 2)):
            y = F.avg_pool2d(x, [min(cell, side) for side in x.shape[-2:]])
            y = F.relu(self.convolve_norm(f"backbone.pyramid.{branch}", y))
            pooled.append(F.interpolate(y, size, mode="bilinear"))
        return *maps, torch.cat(pooled, 1)

    def dense_block(self, name, x):
        for layer in range(4):
            here = f"{name}.{layer}"
            y = F.relu(self.batch_norm(f"{here}.reduce_norm", x))
            y = F.relu(self.batch_norm(f"{here}.grow_norm", self.convolve(f"{here}.reduce", y)))
            x = torch.cat([x, self.convolve(f"{here}.grow", y)], 1)
        return x

    def tokens(self, images):
        quarter, eighth, sixteenth = self.backbone(images)
        kept = 16 if self.full_size else 64
        x = self.dense_block("tokenizer.dense.0", sixteenth)
        for step, skip in enumerate((eighth, quarter)):
            x = self.convolve(f"tokenizer.up.{step}", x[:, -kept:], transposed=True)
            x = torch.cat([cut(x, skip), skip], 1)
            x = self.dense_block(f"tokenizer.dense.{step + 1}", x)
        if not self.full_size:
            return x[:, -C:]
        x = self.convolve("tokenizer.full_up.0", x[:, -kept:], transposed=True)
        x = self.batch_norm("tokenizer.full_up.1", x)
        x = self.convolve("tokenizer.full_up.2", x, transposed=True)
        x = torch.cat([cut(x, images), images], 1)
        for step in (0, 2):
            x = F.relu(self.convolve_norm(f"tokenizer.full.{step}", x))
        return x[:, :, 1::3, 1::3]

    # 4 to 6: transformer

    def linear(self, name, x):
        return F.linear(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def norm(self, name, x):
        return F.layer_norm(x, (C,), self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def attention(self, name, x, y, distance, masked=False):
        """Sequences x [n, t, C] look at y [n, s, C]; `distance` [t, s] from query to key."""
        depth = C // self.heads
        query, key, value, place_query, place_key = (
            self.linear(f"{name}.to_{part}", z).unflatten(-1, (self.heads, depth))
            for part, z in (
                *(("query", x), ("key", y), ("value", y)),
                *(("query", sine(distance)), ("key", sine(distance))),
            )
        )
        query, place_query = query / depth**0.5, place_query / depth**0.5
        scores = torch.einsum("nted,nsed->nets", query, key)
        scores = scores + torch.einsum("nted,tsed->nets", query, place_key)
        scores = scores + torch.einsum("nsed,tsed->nets", key, place_query)
        if masked:
            behind = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(behind, -torch.inf)
        found = torch.einsum("nets,nsed->nted", scores.softmax(-1), value).flatten(-2)
        return self.linear(f"{name}.to_out", found), scores.sum(1)

    def within(self, name, x, along_rows):
        y = self.norm(f"{name}.norm", x)
        if self.context:
            y = y.transpose(1, 2)
            y = self.attention(f"{name}.columns", *2 * [y.flatten(0, 1)], steps(y.shape[2]))[0]
            y = y.unflatten(0, (2, -1)).transpose(1, 2)
        y = self.attention(f"{name}.rows", *2 * [y.flatten(0, 1)], along_rows)[0]
        return x + y.unflatten(0, (2, -1))

    def across(self, name, x, along_rows, in_turn, masked=False):
        left, right = x
        left_seen, right_seen = self.norm(f"{name}.norm", left), self.norm(f"{name}.norm", right)
        attend = f"{name}.attention"
        right = right + self.attention(attend, right_seen, left_seen, -along_rows)[0]
        if in_turn:
            updated = f"{name}.updated_norm"
            own = updated if f"{updated}.weight" in self.names else f"{name}.norm"
            right_seen = self.norm(own, right)
        update, scores = self.attention(attend, left_seen, right_seen, along_rows, masked)
        return torch.stack([left + update, right]), scores

    def merge(self, name, main, context):
        main, context = (x.flatten(0, 1).permute(2, 0, 1)[None] for x in (main, context))
        context = F.interpolate(context, main.shape[-2:], mode="bilinear")
        x = self.convolve(f"{name}.0", torch.cat([context, main], 1))
        return self.convolve(f"{name}.1", x)[0].permute(1, 2, 0).unflatten(0, (2, -1))

    def scores(self, tokens, scale):
        main = tokens.permute(0, 2, 3, 1)
        width = main.shape[2]
        along, context = scale * steps(width), None
        if self.context:
            context = F.avg_pool2d(tokens, (1, min(2, width))).permute(0, 2, 3, 1)
            count = context.shape[2]
            along_context = steps(count) + (-(-width // 2) - count)
        for layer in range(self.layers):
            within, across = f"transformer.within.{layer}", f"transformer.across.{layer}"
            last = layer == self.layers - 1
            main = self.within(f"{within}.main", main, along)
            main, scores = self.across(f"{across}.main", main, along, True, last)
            if self.context:
                context = self.within(f"{within}.context", context, along_context)
                told, _ = self.across(f"{across}.context", context, along_context, False)
                main = self.merge(f"{across}.merge", main, told)
        return scores[None]

    # 7 to 10: transport, regression, upsampling, context adjustment

    def adjust(self, disparity, occlusion, image):
        mean, std = disparity.mean(), disparity.std() + 1e-6
        start = (disparity - mean) / std
        x = self.convolve("adjustment.entry", torch.cat([start, image], 1))
        for block in range(8):
            name = f"adjustment.blocks.{block}"
            y = F.relu(self.weight_norm(f"{name}.widen", torch.cat([start, x], 1)))
            x = x + self.weight_norm(f"{name}.narrow", y)
        disparity = (start + self.convolve("adjustment.exit", x)) * std + mean
        x = torch.cat([(occlusion - 0.5) / 0.5, image], 1)
        for pair in ((0, 1), (3, 4)):
            for step in pair:
                x = self.weight_norm(f"adjustment.occlusion.{step}", x)
            x = F.relu(x)
        return disparity, self.convolve("adjustment.occlusion.6", x).sigmoid()

    def weight_norm(self, name, x):
        direction = self.get(f"{name}.direction")
        length = direction.square().sum((1, 2, 3), keepdim=True).sqrt()
        weight = self.get(f"{name}.length") * direction / length
        return F.conv2d(x, weight, self.get(f"{name}.bias"), padding=1)

    def upsample(self, disparity, tokens):
        logits = F.relu(self.convolve("upsampling.weights.0", tokens))
        logits = self.convolve("upsampling.weights.2", logits).unflatten(1, (9, 4, 4))
        height, width = disparity.shape[-2:]
        around = F.unfold(disparity, 3, padding=1).view(1, 9, 1, 1, height, width)
        fine = (logits.softmax(1) * around).sum(1)
        return fine.permute(0, 3, 1, 4, 2).reshape(1, 1, 4 * height, 4 * width)

    def forward(self, left, right, occluded=None):
        size = left.shape[-2:]
        mean, std = self.get("mean"), self.get("std")
        images = (torch.cat([left, right]) - mean) / std
        tokens = self.tokens(images)
        rows, columns = (
            torch.arange(1, side, 3) if self.full_size else torch.arange(0, side, 4)
            for side in size
        )
        scale = size[1] / len(columns) if self.full_size else 4.0
        scores = self.scores(tokens, scale if self.full_size else 1.0)
        plan = transport(scores, self.get("dustbin"))
        hidden = None if occluded is None else occluded[:, rows][:, :, columns]
        disparity, occlusion, matched = regress(plan[..., :-1, :-1].exp(), hidden)
        disparity = disparity * scale
        upsampled = disparity[:, None]
        if self.context:
            upsampled = self.upsample(upsampled, tokens[:1])
        shown = (F.interpolate(x, size) for x in (upsampled, occlusion[:, None], matched[:, None]))
        full, full_occlusion, confidence = shown
        full, full_occlusion = self.adjust(full, full_occlusion, images[:1])
        details = PublishedDetails(disparity, occlusion, scores, plan, rows, columns, scale)
        return StereoOutput(full[:, 0], full_occlusion[:, 0], confidence[:, 0], details)

    def training_losses(self, sample):
        return published_losses(self(sample.left, sample.right, sample.occluded), sample)


def cut(x, like):
    top, left = ((a - b) // 2 for a, b in zip(x.shape[-2:], like.shape[-2:], strict=True))
    return x[:, :, top : top + like.shape[-2], left : left + like.shape[-1]]


def steps(count):
    """Distance i - j from query i to key j."""
    return torch.arange(count)[:, None] - torch.arange(count).float()


def sine(distance):
    """A position [t, s, C] for every pair."""
    angle = distance[..., None] / 10000 ** (torch.arange(0, C, 2) / C)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def transport(scores, dustbin, iterations=10):
    width = scores.shape[-1]
    right = dustbin.expand(*scores.shape[:-1], 1)
    below = dustbin.expand(*scores.shape[:-2], 1, width + 1)
    table = torch.cat([torch.cat([scores, right], -1), below], -2)
    mass = torch.full((width + 1,), 1 / (2 * width))
    mass[-1] = 0.5
    mass, rows, columns = mass.log(), torch.zeros(()), torch.zeros(())
    for _ in range(iterations):
        columns = mass - torch.logsumexp(table + rows, -2)[..., None, :]
        rows = (mass - torch.logsumexp(table + columns, -1))[..., None]
    return table + rows + columns + torch.tensor(2.0 * width).log()


def regress(plan, occluded):
    width = plan.shape[-1]
    columns = plan.argmax(-1, keepdim=True) + torch.arange(-1, 2)
    inside = (columns >= 0) & (columns < width)
    weights = plan.gather(-1, columns.clamp(0, width - 1)) * inside
    matched = weights.sum(-1)
    mass = torch.where(matched < 0.1 if occluded is None else occluded, 1.0, matched)
    distance = (torch.arange(width)[:, None] - columns).clamp(min=0)
    return (weights / mass[..., None] * distance).sum(-1), 1 - mass, matched.clamp(max=1)
