"""Partners from Metakocka: list them, skip those that have not changed, merge the rest.

Partners come in the order of their ids, so a run continues where the last worker stopped. While the
database writes one batch, the next one is read and merged: an item that was decided too early is
stale there, as after any other change meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import JsonValue

from rapport.deferred import Deferred
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
from rapport.metakocka.api.from_partner import Partner, from_record
from rapport.metakocka.api.records import PartnerRecord, in_order
from rapport.metakocka.sync.find_contact import contact_for, is_known, needs_person, ref_of
from rapport.metakocka.sync.find_partner import is_like
from rapport.metakocka.sync.plan import Terms, plan_of, waiting
from rapport.metakocka.sync.progress import FROM_METAKOCKA, CallFailures, Outcome, Progress, Status
from rapport.store.metakocka import RunStore
from rapport.store.metakocka_rows import KnownPartner, PartnerItem, PartnerResult

DOC_TYPES = ("sales_order", "sales_offer", "sales_bill_domestic", "sales_bill_foreign")
# clocks differ, and a document can be seen only some time after it was written
_OVERLAP = timedelta(minutes=10)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def changed_since(seen_until: datetime | None) -> datetime:
    """The time from which a run reads documents; the last run read them until `seen_until`."""
    return _BEGINNING if seen_until is None else seen_until - _OVERLAP


def named_by_documents(client: MetakockaClient, seen_until: datetime | None) -> list[str]:
    """The ids of the partners that changed documents name, in order."""
    since = changed_since(seen_until)
    found: set[str] = set()
    for doc_type in DOC_TYPES:
        offset, is_last = 0, False
        while not is_last:
            page = client.search_documents(doc_type, since, offset=offset)
            found.update(page.partner_ids)
            offset += page.count
            is_last = page.count < PAGE_LIMIT
    return sorted(found, key=in_order)


BATCH = 500
# listed partners whose hashes are compared in one call
COMPARED = 5_000
# partners that are read one at a time, for one batch
FETCHED = 20
# how often a partner is read and merged again because its contact has changed meanwhile
ROUNDS = 4
# above this many changes, followers get one resync at the end instead of events
QUIET = 100
# errors that one run writes for admins; the rest is counted
LOGGED = 50
_LOST = "A call without an answer may have made this partner. The next run finds out."


class Unread(NamedTuple):
    """A partner that could not be read, and why."""

    metakocka_id: str
    status: Literal["failed", "not_found"]
    error: MetakockaError | NotFound


@dataclass(frozen=True)
class Batch:
    """Partners to merge, in the order of their ids."""

    records: Sequence[PartnerRecord] = ()
    # the last id that was read
    after: str | None = None
    # partners up to this id that have not changed
    unchanged: int = 0
    # when they were read, or a little earlier
    seen_at: datetime | None = None
    # partners up to this id that could not be read
    unread: Sequence[Unread] = ()


class Cursor(Deferred):
    """How far a run has come: the last partner of the whole list, or of a page of documents."""

    after: str | None = None
    # for documents: when the run began to read them, and its page, by type and offset
    seen_until: datetime | None = None
    doc_type: int = 0
    offset: int = 0
    # some partners of the documents could not be read: the next run reads them again
    is_partial: bool = False
    is_pulled: bool = False


@dataclass(frozen=True)
class Step:
    """A merged batch, on its way into the database."""

    batch: Batch
    # how far the run is once it is written
    cursor: JsonValue
    partners: Mapping[str, Partner]
    # of the partners that need no writing
    known: Sequence[PartnerResult]
    written: Future[list[PartnerResult]]

    @property
    def results(self) -> list[PartnerResult]:
        """Waits for the database; raises what the call raised."""
        return [*self.known, *self.written.result()]


@dataclass
class Pull:
    """The part of a run that reads."""

    store: RunStore
    client: MetakockaClient
    progress: Progress
    terms: Terms
    has_time: Callable[[], bool]
    # called between batches, so that edits need not wait for the end of a long list; whether it has
    # sent something
    between: Callable[[], bool] = lambda: False
    failures: CallFailures = field(default_factory=CallFailures)
    _logged: int = 0

    def run(self, metakocka_ids: Sequence[str] | None = None) -> bool:
        """Reads all partners, or these partners; False if the time was over.

        Raises as `Push.run` does.
        """
        cursor = Cursor.model_validate(self.progress.cursor or {})
        if cursor.is_pulled:
            return True
        self.progress.keep()
        if metakocka_ids is not None:
            wanted = sorted(set(metakocka_ids), key=in_order)
            self.progress.total = len(wanted)
            batches = self._fetched(wanted, cursor)
        elif self.progress.run.listing == "documents":
            if cursor.seen_until is None:
                cursor.seen_until = datetime.now(UTC)
            batches = self._named(cursor)
        else:
            batches = self._listed(cursor)
        if not self._take(batches, cursor):
            return False
        cursor.is_pulled = True
        self._tell(_state(cursor))
        return True

    @property
    def seen_until(self) -> datetime | None:
        """Until when the run has read documents, once it is done."""
        cursor = Cursor.model_validate(self.progress.cursor or {})
        return None if cursor.is_partial else cursor.seen_until

    def _take(self, batches: Iterable[Batch], cursor: Cursor) -> bool:
        """Merges and writes all batches; False if the time was over."""
        before: Step | None = None
        # however it ends, it waits for the batch that is being written
        with ThreadPoolExecutor(1, "apply_partners") as writer:
            try:
                for batch in batches:
                    cursor.after = batch.after
                    # the batches go on with this cursor
                    state = _state(cursor)
                    partners = [from_record(one, region=self.terms.region) for one in batch.records]
                    known, items = self._merge(partners, batch.seen_at, known_hash=True)
                    ended, before = before, None
                    if ended is not None:
                        self._end(ended)
                        if self.between():
                            # the contacts that were sent now agree with their partners otherwise
                            known, items = self._merge(partners, batch.seen_at, known_hash=True)
                        if not self.has_time():
                            return False
                    written = writer.submit(self._apply, items)
                    by_id = {one.mk_id: one for one in partners}
                    before = Step(batch, state, by_id, known, written)
            except MetakockaError:
                # what was read before the failed call counts
                if before is not None:
                    self._end(before)
                raise
            if before is None:
                return True
            self._end(before)
            self.between()
            return self.has_time()

    def _end(self, step: Step) -> None:
        """Waits until a batch is written, merges its stale items again, and counts it."""
        results = step.results
        self._count_unread(step.batch.unread)
        for turn in range(ROUNDS):
            stale: list[Partner] = []
            for result in results:
                if result.status == "stale" and turn < ROUNDS - 1:
                    stale.append(step.partners[result.metakocka_id or ""])
                else:
                    self._count(result)
            if not stale:
                break
            known, items = self._merge(stale, step.batch.seen_at, known_hash=False)
            results = known + self._apply(items)
        self.progress.add_unchanged(step.batch.unchanged)
        self._tell(step.cursor)

    def _tell(self, cursor: JsonValue) -> None:
        self.progress.cursor = cursor
        self.progress.tell()

    def _listed(self, cursor: Cursor) -> Iterator[Batch]:
        seen_at = self.progress.now()
        partners = self.client.list_partners()
        self.failures.succeeded()
        self.progress.total = len(partners)
        self.progress.keep()
        records = partners.in_order(cursor.after)
        while part := {one.mk_id: one for one in islice(records, COMPARED)}:
            hashes = {mk_id: record.hash for mk_id, record in part.items()}
            compared = self.store.compare_partners(hashes)
            self._note_seen(compared.edited, seen_at)
            ids, different = list(part), frozenset(compared.different)
            changed = [place for place, mk_id in enumerate(ids) if mk_id in different]
            begin = 0
            for first in range(0, max(len(changed), 1), BATCH):
                places = changed[first : first + BATCH]
                # the last batch takes the unchanged ones at the end too
                is_last = first + BATCH >= len(changed)
                end = len(ids) if is_last else places[-1] + 1
                yield Batch(
                    [part[ids[place]] for place in places],
                    ids[end - 1],
                    end - begin - len(places),
                    seen_at,
                )
                begin = end
        if not partners.is_complete:
            self._log_some(MetakockaError("Some partners in the list are not readable."))

    def _named(self, cursor: Cursor) -> Iterator[Batch]:
        """The partners of documents, page by page: one run may have no time for all."""
        since = changed_since(self.progress.run.documents_seen_until)
        seen: set[str] = set()
        refused = 0
        while cursor.doc_type < len(DOC_TYPES):
            self.progress.keep()
            try:
                page = self.client.search_documents(
                    DOC_TYPES[cursor.doc_type], since, offset=cursor.offset
                )
            except MetakockaRefused as error:
                # a company may lack a kind; if all kinds are refused, there is another cause
                refused += 1
                if refused == len(DOC_TYPES):
                    raise
                self._log_some(error, DOC_TYPES[cursor.doc_type])
                cursor.doc_type, cursor.offset = cursor.doc_type + 1, 0
                yield Batch()
                continue
            self.failures.succeeded()
            yield from self._fetched(sorted({*page.partner_ids} - seen, key=in_order), cursor)
            seen.update(page.partner_ids)
            if page.count < PAGE_LIMIT:
                cursor.doc_type, cursor.offset = cursor.doc_type + 1, 0
            else:
                cursor.offset += page.count
            yield Batch()

    def _fetched(self, wanted: Iterable[str], cursor: Cursor) -> Iterator[Batch]:
        after = cursor.after
        left = iter([one for one in wanted if after is None or in_order(one) > in_order(after)])
        while part := list(islice(left, FETCHED)):
            records: list[PartnerRecord] = []
            # counted with their batch: a run that stops before it reads them again
            unread: list[Unread] = []
            # before the first of them is read
            seen_at = self.progress.now()
            try:
                for metakocka_id in part:
                    self.progress.keep()
                    record = self._read(metakocka_id, unread, cursor)
                    if record is not None:
                        records.append(record)
            except MetakockaError:
                self._count_unread(unread)
                raise
            yield Batch(records, part[-1], seen_at=seen_at, unread=unread)
        self.failures.end()

    def _read(
        self, metakocka_id: str, unread: list[Unread], cursor: Cursor
    ) -> PartnerRecord | None:
        """The partner; None if it can't be read, while Metakocka still answers."""
        try:
            record = self.client.get_partner(metakocka_id)
        except MetakockaClosed:
            raise
        except MetakockaError as error:
            unread.append(Unread(metakocka_id, "failed", error))
            if isinstance(error, MetakockaUnavailable):
                cursor.is_partial = True
                self.failures.add(error)
            else:
                self.failures.succeeded()
            return None
        self.failures.succeeded()
        if record is None:
            missing = NotFound("Metakocka has no such partner.")
            unread.append(Unread(metakocka_id, "not_found", missing))
        return record

    def _count_unread(self, unread: Sequence[Unread]) -> None:
        for one in unread:
            self._log_some(one.error, one.metakocka_id)
            self._add(one.metakocka_id, one.status, error=one.error)

    def _merge(
        self, partners: Sequence[Partner], seen_at: datetime | None, *, known_hash: bool
    ) -> tuple[list[PartnerResult], list[PartnerItem]]:
        """Reads what the database knows of partners; answers results, and items to be written."""
        if not partners:
            return [], []
        known = self.store.read_partners(
            [ref_of(partner, known_hash=known_hash) for partner in partners]
        )
        results: list[PartnerResult] = []
        items: list[PartnerItem] = []
        self._note_seen(
            [one.metakocka_id for one in known if one.unchanged and one.is_edited], seen_at
        )
        lost = self._lost(known)
        for partner, one in zip(partners, known, strict=True):
            if needs_person(partner, one, self.terms.region):
                results.append(_result(partner, "waiting"))
            elif not is_known(one) and any(is_like(sent, partner.party) for sent in lost):
                # the worker that sends the contact finds out; the contact may have changed since
                results.append(_result(partner, "waiting", reason=_LOST))
            elif one.unchanged or one.is_deleted or _is_older(seen_at, one):
                results.append(_result(partner, "unchanged", one.contact_id))
            else:
                items.append(self._item(partner, one, seen_at))
        return results, items

    def _apply(self, items: Sequence[PartnerItem]) -> list[PartnerResult]:
        return self.store.apply_partners(items, quiet=len(items) > QUIET) if items else []

    def _note_seen(self, metakocka_ids: Sequence[str], seen_at: datetime | None) -> None:
        """Notes which unsent contacts have an unchanged partner, even if the run fails later."""
        if metakocka_ids and seen_at is not None:
            self.store.note_partners_seen(metakocka_ids, seen_at)

    def _lost(self, known: Sequence[KnownPartner]) -> list[Party]:
        """The parties of calls that may have made a partner without a contact."""
        if all(is_known(one) for one in known):
            return []
        return [
            Party.model_validate(intent.sent)
            for intent in self.store.unsettled_intents()
            if intent.operation == "add_partner" and intent.state != "intended"
        ]

    def _item(self, partner: Partner, known: KnownPartner, seen_at: datetime | None) -> PartnerItem:
        contact = contact_for(partner, known, self.terms.region)
        if isinstance(contact, Sequence):
            return waiting(partner, contact)
        plan = plan_of(contact, partner, self.terms)
        for held in plan.merged.held:
            words = f"{held.field}: {held.reason}"
            self._log_some(Unprocessable(words, field=held.field), partner.mk_id)
        return plan.item(contact, seen_at)

    def _count(self, result: PartnerResult) -> None:
        metakocka_id = result.metakocka_id or ""
        if result.status == "waiting":
            error = MetakockaError(
                result.reason or "A person decides which contact this partner is."
            )
            self._add(metakocka_id, "waiting" if result.reason else "conflict", error=error)
        elif result.status == "stale" or result.status == "refused":
            words = result.reason or f"The contact changed during each of {ROUNDS} merges."
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
            self.progress.log(FROM_METAKOCKA, error, metakocka_id=metakocka_id)


def _is_older(seen_at: datetime | None, known: KnownPartner) -> bool:
    """Whether the contact was sent after its partner was read: Metakocka has newer values."""
    return seen_at is not None and known.seen_at is not None and seen_at < known.seen_at


def _state(cursor: Cursor) -> JsonValue:
    state: JsonValue = cursor.model_dump(mode="json", exclude_defaults=True)
    return state


def _result(
    partner: Partner,
    status: Literal["unchanged", "waiting"],
    contact_id: UUID | None = None,
    reason: str | None = None,
) -> PartnerResult:
    return PartnerResult(
        metakocka_id=partner.mk_id, status=status, contact_id=contact_id, reason=reason
    )
