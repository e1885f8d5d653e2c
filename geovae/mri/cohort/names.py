"""Names of files in OASIS-1, BIDS, FSL, FreeSurfer and ANTs: of volumes, and of the brain masks beside them."""

import re
from pathlib import Path

_SUFFIX = r"\.(?:(?:hdr|img|nii)(?:\.gz)?|mgz|mgh)"
# n4 is the number of averaged repeats: n3, n5 and n6 exist
_SUBJECT = r"(?P<subject>OAS1_\d{4})_MR(?P<visit>\d+)_mpr"
OASIS_FILES = {
    "t88_masked": rf"{_SUBJECT}_n\d+_anon_111_t88_masked_gfc{_SUFFIX}",
    "t88": rf"{_SUBJECT}_n\d+_anon_111_t88_gfc{_SUFFIX}",
    "fseg": rf"{_SUBJECT}_n\d+_anon_111_t88_masked_gfc_fseg{_SUFFIX}",
    "subj": rf"{_SUBJECT}_n\d+_anon_sbj_111{_SUFFIX}",
    "raw": rf"{_SUBJECT}-1_anon{_SUFFIX}",
}
BIDS_FILE = (
    r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?(?P<entities>(?:_[A-Za-z0-9]+-[A-Za-z0-9]+)*)"
    r"_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?"
)
FLAT_FILE = rf"(?P<name>.+?){_SUFFIX}"
NOT_RAW = ("derivatives", "sourcedata", "code")  # of a BIDS data set: what was computed from it, or became it
HINTS = {
    "oasis1": "disc*/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img",
    "bids": "sub-01[/ses-01]/anat/sub-01[_ses-01]_T1w.nii.gz",
    "flat": "*.nii, *.nii.gz, *.mgz, or pairs of *.hdr and *.img",
}

# fsl_anat, bet, HD-BET, SynthStrip and many scripts append one of these to the volume's name
MASK_ENDINGS = ("_mask", "_brain_mask", "_brainmask", "_bet_mask")
# FreeSurfer, FastSurfer, and scripts with a folder for each subject
MASK_NAMES = ("brainmask", "brain_mask", "mask")
ANTS_VOLUMES = ("BrainSegmentation0N4", "ExtractedBrain0N4", "BrainExtractionBrain")


def stem(path: Path) -> str:
    """Return a file's name without the ending of its format."""
    match = re.fullmatch(FLAT_FILE, path.name)
    return match["name"] if match else path.name


def entities(name: str) -> dict[str, str]:
    """Return the entities of a BIDS name without subject and session, such as `{"run": "1", "desc": "preproc"}`."""
    match = re.fullmatch(BIDS_FILE, name)
    parts = match["entities"].split("_")[1:] if match else []
    return {key: value for key, _, value in (part.partition("-") for part in parts)}


def mask_stems(volume: Path) -> list[str]:
    """Return the stems that the brain mask of a volume may have, the most exact first."""
    name, found = stem(volume), []
    if match := re.fullmatch(BIDS_FILE, volume.name):
        kept = [f"{key}-{value}" for key, value in entities(volume.name).items() if key != "desc"]
        first = [match["subject"], *([match["session"]] if match["session"] else [])]
        found = ["_".join([*first, *kept, mask]) for mask in ("desc-brain_mask", "label-brain_mask")]
    found += [f"{name}{ending}" for ending in MASK_ENDINGS]
    found += [f"{name.removesuffix(ants)}BrainExtractionMask" for ants in ANTS_VOLUMES if name.endswith(ants)]
    return [*found, *MASK_NAMES]
