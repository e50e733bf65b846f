"""Erasing: a published file written anew without the rows of deleted tags.

Row group by row group, so that memory is bounded by one; what is left of a group stays in its order (docs/formats/
published.md), and a group without any of the rows is written as it was read.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.catalog import Catalog, remove_files
from storage.catalog_change import Change
from storage.cover import DeletedTag, PublishedFile
from storage.disk import Disk, full_disk_errors
from storage.hot import DamagedFileError, finish_file
from storage.publish import METADATA_KEY, writer_options


class Eraser:
    """In a worker thread, one at a time, and never beside a publication.

    Args:
        catalog: told of the outcome.
        disk: syncs and renames.
    """

    def __init__(self, catalog: Catalog, disk: Disk) -> None:
        self._catalog = catalog
        self._disk = disk

    def erase(self, file: PublishedFile) -> Change:
        """Rows of the file that are deleted (``file.deleted``) are in no file any more.

        Raises:
            DiskFullError: nothing has changed.
            DamagedFileError: the file cannot be read back.
        """
        try:
            with (
                full_disk_errors(file.path),
                pq.ParquetFile(file.path, page_checksum_verification=True) as parquet,
            ):
                rows = _count(parquet, file.deleted)
                if rows == 0:
                    return Change()
                if rows == file.rows:
                    return self._catalog.commit_forget(file)
                return self._catalog.commit_replace(file, self._write(parquet, file))
        except (pa.ArrowException, ValueError) as error:
            raise DamagedFileError(file.path, str(error)) from error

    def _write(self, parquet: pq.ParquetFile, file: PublishedFile) -> PublishedFile:
        """The file's next revision, durable where revisions wait."""
        path = self._catalog.next_path(file)
        temporary = path.with_name(path.name + path.suffix)
        self._catalog.announce([path, temporary])
        rows, next_seq, times = 0, 0, []
        try:
            with pq.ParquetWriter(
                temporary,
                parquet.schema_arrow.remove_metadata(),
                store_schema=False,
                **writer_options(parquet.schema_arrow.names),
            ) as writer:
                for table in _kept(parquet, file.deleted):
                    writer.write_table(table, row_group_size=table.num_rows)
                    rows += table.num_rows
                    at = pc.min_max(table.column("at").cast(pa.int64())).as_py()
                    times += [at["min"], at["max"]]
                    next_seq = max(next_seq, pc.max(table.column("seq")).as_py() + 1)
                metadata = parquet.metadata.metadata[METADATA_KEY.encode()]
                writer.add_key_value_metadata({METADATA_KEY: metadata.decode()})
            size = finish_file(temporary, path, self._disk)
        except BaseException:
            remove_files([temporary, path], self._disk)
            raise
        return PublishedFile(
            path, file.channel, file.day, rows, size, min(times), max(times), file.first_seq, next_seq,
            file.columns, file.revision + 1,
        )  # fmt: skip


def _is_deleted(table: pa.Table, deleted: tuple[DeletedTag, ...]) -> pa.ChunkedArray:
    """A boolean for each row."""
    found = pa.chunked_array([pa.array([False] * table.num_rows)]) if not deleted else None
    for name, _, below_seq in deleted:
        of_tag = pc.fill_null(pc.equal(table.column("tag"), name), fill_value=False)
        gone = pc.and_(of_tag, pc.less(table.column("seq"), below_seq))
        found = gone if found is None else pc.or_(found, gone)
    return found


def _count(parquet: pq.ParquetFile, deleted: tuple[DeletedTag, ...]) -> int:
    """How many rows are deleted."""
    groups = range(parquet.metadata.num_row_groups)
    tables = (parquet.read_row_group(i, ["seq", "tag"], use_threads=False) for i in groups)
    return sum(pc.sum(_is_deleted(table, deleted)).as_py() or 0 for table in tables)


def _kept(parquet: pq.ParquetFile, deleted: tuple[DeletedTag, ...]) -> Iterator[pa.Table]:
    """Each row group without its deleted rows; none that would be empty."""
    for i in range(parquet.metadata.num_row_groups):
        table = parquet.read_row_group(i, use_threads=False)
        gone = _is_deleted(table, deleted)
        if pc.any(gone).as_py():
            table = table.filter(pc.invert(gone))
        if table.num_rows:
            yield table
