# The golden values of src/eval/metrics.rs: pip install scikit-image==0.26.0 && python eval.py
import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(seed, w=37, h=29):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    noise = (x * 73 + y * 179 + c * 283 + seed * 97 + (x * y) % 31 * 11) % 256
    checks = np.where((x // 5 + y // 7 + seed) % 2 == 1, 60, -60)
    return np.clip((3 * (128 + checks + x * 2 - y + c * 20) + noise) // 4, 0, 255)


def noisy(a):
    return np.clip(a + (np.arange(a.size).reshape(a.shape) * 7919) % 41 - 20, 0, 255)


one = picture(1)
for two in picture(2), noisy(one):
    a, b = one / 255, two / 255
    apart = deltaE_ciede2000(rgb2lab(a), rgb2lab(b))
    similarity = structural_similarity(
        a, b, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    print(peak_signal_noise_ratio(a, b, data_range=1), similarity, apart.mean(), np.percentile(apart, 95))
