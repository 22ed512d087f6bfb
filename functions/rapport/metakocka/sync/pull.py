"""Partners from Metakocka: list them, pass over those that have not changed, merge the rest.

They are looked at in the order of their ids, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from rapport.errors import (
    MetakockaClosed,
    MetakockaError,
    MetakockaRefused,
    MetakockaUnavailable,
    NotFound,
    StoreError,
    Unprocessable,
)
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.client import PAGE_LIMIT, MetakockaClient
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord, in_order
from rapport.metakocka.sync.find_partner import is_like
from rapport.metakocka.sync.plan import Terms, is_asked, is_known, match, plan_of, ref_of, waiting
from rapport.metakocka.sync.progress import Outcome, Progress, Silence, Status
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import KnownPartner, PartnerItem, PartnerResult

DOC_TYPES = ("sales_order", "sales_offer", "sales_bill_domestic", "sales_bill_foreign")
# clocks differ, and documents are written before they can be seen
_OVERLAP = timedelta(minutes=10)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def looked_at_from(seen_until: datetime | None) -> datetime:
    """From when documents are to be looked through, after they were until `seen_until`."""
    return _BEGINNING if seen_until is None else seen_until - _OVERLAP


def named_by_documents(client: MetakockaClient, seen_until: datetime | None) -> list[str]:
    """The ids of the partners that changed documents name, in order."""
    since = looked_at_from(seen_until)
    found: set[str] = set()
    for doc_type in DOC_TYPES:
        offset, is_last = 0, False
        while not is_last:
            page = client.search_documents(doc_type, since, offset=offset)
            found.update(page.partner_ids)
            offset += page.count
            is_last = page.count < PAGE_LIMIT
    return sorted(found, key=in_order)


OPERATION = "syncContactFromMetakocka"
BATCH = 500
# partners that are asked for one at a time
ASKED = 20
# so often a partner is read and merged again because its contact has changed meanwhile
ROUNDS = 4
# more events at once are none to those who follow: they are told to read again at the end
QUIET = 100
# errors of one kind that are written for admins in one run; the rest is counted
LOGGED = 50
_LOST = "It may be what a call without an answer has made, which is being found out."

# partners, and the last id that was asked for
Batch = tuple[list[PartnerRecord], str | None]


class Cursor(BaseModel):
    """Where a run is: the last partner that was looked at, of all or of a page of documents."""

    after: str | None = None
    # of documents: when they were looked through, and the page, by type and offset
    seen_until: datetime | None = None
    doc_type: int = 0
    offset: int = 0
    # some of their partners could not be read, and are to be asked for again
    is_partial: bool = False
    is_pulled: bool = False


@dataclass
class Pull:
    """The part of a run that reads."""

    store: MetakockaStore
    client: MetakockaClient
    progress: Progress
    terms: Terms
    has_time: Callable[[], bool]
    # done between batches, so that nothing waits for the end
    between: Callable[[], object] = lambda: None
    # of the whole run's calls
    silence: Silence = field(default_factory=Silence)
    _logged: int = 0
    # when the batch was read, or a little earlier
    _seen_at: datetime | None = None

    def run(self, metakocka_ids: Sequence[str] | None = None) -> bool:
        """Looks at all partners, or these; False where the time was over.

        Raises as `Push.run` does.
        """
        cursor = Cursor.model_validate(self.progress.cursor or {})
        if cursor.is_pulled:
            return True
        self.progress.keep()
        if metakocka_ids is not None:
            wanted = sorted(set(metakocka_ids), key=in_order)
            self.progress.total = len(wanted)
            batches = self._asked(wanted, cursor)
        elif self.progress.run.listing == "documents":
            if cursor.seen_until is None:
                cursor.seen_until = datetime.now(UTC)
            batches = self._named(cursor)
        else:
            batches = self._listed(cursor)
        for batch, cursor.after in batches:
            self._take(batch)
            self._tell(cursor)
            self.between()
            if not self.has_time():
                return False
        cursor.is_pulled = True
        self._tell(cursor)
        return True

    @property
    def seen_until(self) -> datetime | None:
        """Until when documents have been looked through, once the run is done."""
        cursor = Cursor.model_validate(self.progress.cursor or {})
        return None if cursor.is_partial else cursor.seen_until

    def _tell(self, cursor: Cursor) -> None:
        self.progress.cursor = cursor.model_dump(mode="json", exclude_defaults=True)
        self.progress.tell()

    def _listed(self, cursor: Cursor) -> Iterator[Batch]:
        self._seen_at = self.progress.now()
        partners = self.client.list_partners()
        self.silence.broken()
        self.progress.total = len(partners)
        self.progress.keep()
        records = partners.in_order(cursor.after)
        while batch := list(islice(records, BATCH)):
            yield batch, batch[-1].mk_id
        if not partners.is_complete:
            self._log_some(MetakockaError("Some partners in the list are not readable."))

    def _named(self, cursor: Cursor) -> Iterator[Batch]:
        """Those of documents, by page: a company may have more than one run has time for."""
        since = looked_at_from(self.progress.run.documents_seen_until)
        seen: set[str] = set()
        refused = 0
        while cursor.doc_type < len(DOC_TYPES):
            self.progress.keep()
            try:
                page = self.client.search_documents(
                    DOC_TYPES[cursor.doc_type], since, offset=cursor.offset
                )
            except MetakockaRefused as error:
                # a company need not have every kind; without any it is not about that
                refused += 1
                if refused == len(DOC_TYPES):
                    raise
                self._log_some(error, DOC_TYPES[cursor.doc_type])
                cursor.doc_type, cursor.offset = cursor.doc_type + 1, 0
                yield [], None
                continue
            self.silence.broken()
            yield from self._asked(sorted({*page.partner_ids} - seen, key=in_order), cursor)
            seen.update(page.partner_ids)
            if page.count < PAGE_LIMIT:
                cursor.doc_type, cursor.offset = cursor.doc_type + 1, 0
            else:
                cursor.offset += page.count
            yield [], None

    def _asked(self, wanted: Iterable[str], cursor: Cursor) -> Iterator[Batch]:
        after = cursor.after
        left = iter([one for one in wanted if after is None or in_order(one) > in_order(after)])
        while part := list(islice(left, ASKED)):
            records: list[PartnerRecord] = []
            # the first of them was read then, the others later
            self._seen_at = self.progress.now()
            for metakocka_id in part:
                self.progress.keep()
                try:
                    record = self.client.get_partner(metakocka_id)
                except MetakockaClosed:
                    raise
                except MetakockaError as error:
                    self._unread(metakocka_id, error, cursor)
                    continue
                self.silence.broken()
                if record is None:
                    self._missing(metakocka_id)
                else:
                    records.append(record)
            yield records, part[-1]
        self.silence.end()

    def _unread(self, metakocka_id: str, error: MetakockaError, cursor: Cursor) -> None:
        """One that can't be read keeps the others from nothing, unless nobody answers."""
        self._log_some(error, metakocka_id)
        self._add(metakocka_id, "failed", error=error)
        if isinstance(error, MetakockaUnavailable):
            cursor.is_partial = True
            self.silence.add(error)
        else:
            self.silence.broken()

    def _missing(self, metakocka_id: str) -> None:
        error = NotFound("Metakocka has no such partner.")
        self._log_some(error, metakocka_id)
        self._add(metakocka_id, "not_found", error=error)

    def _take(self, batch: Sequence[PartnerRecord]) -> None:
        """Merges and writes one batch; what went stale meanwhile is read again."""
        by_id = {record.mk_id: record for record in batch}
        for turn in range(ROUNDS):
            if not by_id:
                return
            results = self._write(list(by_id.values()), known_hash=turn == 0)
            for result in results:
                record = by_id.pop(result.metakocka_id or "")
                if result.status == "stale" and turn < ROUNDS - 1:
                    by_id[record.mk_id] = record
                else:
                    self._count(result)

    def _write(self, records: Sequence[PartnerRecord], *, known_hash: bool) -> list[PartnerResult]:
        known = self.store.read_partners(
            self.progress.account_id,
            [ref_of(record, self.terms, known_hash=known_hash) for record in records],
        )
        results: list[PartnerResult] = []
        items: list[PartnerItem] = []
        self._note_seen(known)
        lost = self._lost(known)
        for record, one in zip(records, known, strict=True):
            if is_asked(record, one, self.terms):
                results.append(_result(record, "waiting"))
            elif self._may_be_one_of(lost, record, one):
                results.append(_result(record, "waiting", reason=_LOST))
            elif one.unchanged or one.is_deleted:
                results.append(_result(record, "unchanged", one.contact_id))
            else:
                items.append(self._item(record, one))
        if items:
            results += self.store.apply_partners(
                self.progress.account_id,
                self.progress.run.run_id,
                items,
                quiet=len(items) > QUIET,
            )
        return results

    def _note_seen(self, known: Sequence[KnownPartner]) -> None:
        """Of contacts that are to be sent, in whatever way the run ends."""
        edited = [one.metakocka_id for one in known if one.unchanged and one.is_edited]
        if edited and self._seen_at is not None:
            self.store.note_partners_seen(self.progress.account_id, edited, self._seen_at)

    def _lost(self, known: Sequence[KnownPartner]) -> list[Party]:
        """What was sent by calls that may have made a partner which is none of the known."""
        if all(is_known(one) for one in known):
            return []
        return [
            Party.model_validate(intent.sent)
            for intent in self.store.unsettled_intents(self.progress.account_id)
            if intent.operation == "add_partner" and intent.state != "intended"
        ]

    def _may_be_one_of(
        self, lost: Sequence[Party], record: PartnerRecord, known: KnownPartner
    ) -> bool:
        if not lost or is_known(known):
            return False
        # whoever sends the contact finds out; it may look like anything by now
        party = from_record(record, region=self.terms.region).party
        return any(is_like(sent, party) for sent in lost)

    def _item(self, record: PartnerRecord, known: KnownPartner) -> PartnerItem:
        contact = match(record, known, self.terms)
        if isinstance(contact, Sequence):
            return waiting(record, contact, self.terms)
        plan = plan_of(contact, record, self.terms)
        for held in plan.merged.held:
            words = f"{held.field}: {held.reason}"
            self._log_some(Unprocessable(words, field=held.field), record.mk_id)
        return plan.item(contact, self._seen_at)

    def _count(self, result: PartnerResult) -> None:
        metakocka_id = result.metakocka_id or ""
        if result.status == "waiting":
            error = MetakockaError(
                result.reason or "Which contact this partner is, a person decides."
            )
            self._add(metakocka_id, "waiting" if result.reason else "conflict", error=error)
        elif result.status == "stale" or result.status == "refused":
            words = result.reason or "It changes faster than it can be merged."
            refused = StoreError(words)
            self._log_some(refused, metakocka_id)
            self._add(metakocka_id, "failed", error=refused)
        else:
            self._add(metakocka_id, result.status, result.contact_id)

    def _add(
        self,
        metakocka_id: str,
        status: Status,
        contact_id: UUID | None = None,
        error: MetakockaError | NotFound | StoreError | None = None,
    ) -> None:
        self.progress.add(
            Outcome(
                id=metakocka_id,
                status=status,
                contact_id=contact_id,
                metakocka_id=metakocka_id,
                code=error.code if error else None,
                message=str(error) if error else None,
            )
        )

    def _log_some(
        self,
        error: MetakockaError | NotFound | StoreError | Unprocessable,
        metakocka_id: str = "batch",
    ) -> None:
        self._logged += 1
        if self._logged <= LOGGED:
            self.progress.log(OPERATION, error, metakocka_id=metakocka_id)


def _result(
    record: PartnerRecord,
    status: Literal["unchanged", "waiting"],
    contact_id: UUID | None = None,
    reason: str | None = None,
) -> PartnerResult:
    return PartnerResult(
        metakocka_id=record.mk_id, status=status, contact_id=contact_id, reason=reason
    )
