"""PostgreSQL's regression scripts and their data, from Debian's source package of the same major release."""

import shutil
import tarfile
from pathlib import Path

from harness import debian
from harness.prefix import MAJOR

PARTS = ("/src/test/regress/sql/", "/src/test/regress/data/")


def regress_directory() -> Path:
    """The directory that holds `sql` and `data`; downloads it the first time."""
    return debian.cached(f"regress-{MAJOR}", extract)


def extract(work: Path, made: Path) -> None:
    debian.download(work, "source", "--download-only", "--only-source", f"postgresql-{MAJOR}")
    (archive,) = work.glob(f"postgresql-{MAJOR}_*.orig.tar.*")
    with tarfile.open(archive) as tar:
        for member in tar:
            for part in PARTS:
                if part in member.name and member.isfile():
                    place = made / Path(part).name / Path(member.name).name
                    place.parent.mkdir(exist_ok=True)
                    with tar.extractfile(member) as source, open(place, "wb") as out:
                        shutil.copyfileobj(source, out)
