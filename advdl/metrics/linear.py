"""What linear maps make of images, beside auto-encoders. Axes: N training images, M test images, D
pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.decomposition import PCA


def pca(training_ND: np.ndarray, components: int) -> PCA:
    """Principal components of the training images, as many as asked for or as there can be: the
    best linear auto-encoder of that code size (Baldi & Hornik 1989)."""
    from sklearn.decomposition import PCA  # here: seconds to import, and training needs none of it

    return PCA(min(components, *training_ND.shape), random_state=0).fit(training_ND)


def pca_reconstruction(
    training_ND: np.ndarray, given_MD: np.ndarray, components: int
) -> np.ndarray:
    """Images from that many principal components, (M, D), clipped to [0, 1], where pixels lie: it
    never increases an error."""
    found = pca(training_ND, components)
    return found.inverse_transform(found.transform(given_MD)).clip(0, 1)


def wiener(training_ND: np.ndarray, noisy_MD: np.ndarray, noise: float) -> np.ndarray:
    """The linear estimate of least squared error of images under white noise of this standard
    deviation: (M, D) in [0, 1].

    mean + C (C + noise² I)⁻¹ (noisy - mean) with the training images' mean and covariance C.
    """
    mean, covariance = training_ND.mean(0), np.cov(training_ND, rowvar=False)
    gain = np.linalg.solve(covariance + noise**2 * np.eye(len(covariance)), covariance).T
    return (mean + (noisy_MD - mean) @ gain.T).clip(0, 1)


def linear_reconstructions(
    training: np.ndarray, given: np.ndarray, components: int, noise: float = 0.0
) -> dict[str, np.ndarray]:
    """What methods without a network make of images `given` (M, …), by name, (M, …) each: the mean
    of the training images (N, …), PCA with so many components and, where the images have white
    noise of a standard deviation `noise`, the Wiener filter."""
    training_ND, given_MD = training.reshape(len(training), -1), given.reshape(len(given), -1)
    found = {
        "mean_image": np.broadcast_to(training_ND.mean(0), given_MD.shape),
        "pca": pca_reconstruction(training_ND, given_MD, components),
    }
    if noise:
        found["wiener"] = wiener(training_ND, given_MD, noise)
    return {name: made.reshape(given.shape) for name, made in found.items()}
