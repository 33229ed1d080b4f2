"""Whole networks, one family a file, each true to its paper."""

from advdl.models import dcgan, goodfellow, resnet

__all__ = ["dcgan", "goodfellow", "resnet"]
