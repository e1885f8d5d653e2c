"""The numbers of the paper's Table 1 (Chadebec & Allassonnière 2022), to stand beside ours.

FID against the test images (lower is better), and the pair F8, F1/8 of PRD (higher is better), 10,000 samples.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One entry of Table 1."""

    fid: float
    f8: float
    f1_8: float


class PaperRow(NamedTuple):
    """One row of Table 1: what the paper calls it, our model and sampler, and its entries by data set."""

    label: str
    model: str
    sampler: str
    entries: dict[str, Published]


_TABLE1 = """
model sampler    | row             | mnist           | svhn             | cifar            | celeba
ae prior         | AE, N(0, I)     | 46.41 0.86 0.77 | 119.65 0.54 0.37 | 196.50 0.05 0.17 | 64.64 0.29 0.42
wae prior        | WAE             | 20.71 0.93 0.88 | 49.07 0.80 0.85  | 132.99 0.24 0.52 | 54.56 0.57 0.55
vae prior        | VAE, N(0, I)    | 40.70 0.83 0.75 | 83.55 0.69 0.55  | 162.58 0.10 0.32 | 64.13 0.27 0.39
vamp vamp        | VAMP            | 34.02 0.83 0.88 | 91.98 0.55 0.63  | 198.14 0.05 0.11 | 73.87 0.09 0.10
hvae prior       | HVAE            | 15.54 0.97 0.95 | 98.05 0.64 0.68  | 201.70 0.13 0.21 | 52.00 0.38 0.58
rhvae prior      | RHVAE           | 36.51 0.73 0.28 | 121.69 0.55 0.41 | 167.41 0.12 0.22 | 55.12 0.45 0.56
ae mixture       | AE, GMM         | 9.60 0.95 0.90  | 54.21 0.82 0.83  | 130.28 0.35 0.58 | 56.07 0.32 0.48
rae_gp mixture   | RAE-GP          | 9.44 0.97 0.98  | 61.43 0.79 0.78  | 120.32 0.34 0.58 | 59.41 0.28 0.49
rae_l2 mixture   | RAE-L2          | 9.89 0.97 0.98  | 58.32 0.82 0.79  | 123.25 0.33 0.54 | 54.45 0.35 0.55
rae_sn mixture   | RAE-SN          | 11.22 0.97 0.98 | 95.64 0.53 0.63  | 114.59 0.32 0.53 | 55.04 0.36 0.56
rae mixture      | RAE             | 11.23 0.98 0.98 | 66.20 0.76 0.80  | 118.25 0.35 0.57 | 53.29 0.36 0.58
vae mixture      | VAE, GMM        | 13.13 0.95 0.92 | 52.32 0.82 0.85  | 138.25 0.29 0.53 | 55.50 0.37 0.49
vae riemannian   | VAE, Riemannian | 8.53 0.98 0.97  | 46.99 0.84 0.85  | 93.53 0.71 0.68  | 48.71 0.44 0.62
"""


def _read_table(text: str) -> list[PaperRow]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    rows = []
    for who, label, *cells in lines:
        entries = {name: Published(*map(float, cell.split())) for name, cell in zip(head[2:], cells, strict=True)}
        model, sampler = who.split()
        rows.append(PaperRow(label, model, sampler, entries))
    return rows


TABLE1 = _read_table(_TABLE1)
# the paper's column that an embedded data set comes nearest to: its ranks may be compared, its numbers never
NEAREST = {"digits": "mnist", "patches": "cifar"}
N_SAMPLES = 10_000
