"""Archives by the DICOM protocol: C-STORE, C-FIND and storage commitment (PS3.4, B, C, J)."""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from clesr.engines.common.errors import WHY, ClesrError, SinkError, told_as
from clesr.engines.common.parsing import one_line
from clesr.tools.export.delivery.archive import DicomObject, Unreachable

FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")  # study root query model
COMMITMENT, COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
CONNECT_S, ANSWER_S = 10.0, 120.0
COMMIT_S, CALLBACK_S = 5.0, 60.0  # for an archive's promise, in this association and in one of its own
PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
BUSY = range(0xA700, 0xA800)  # out of resources: may pass
_NO_MEMORY = 0x0110, 0x0213  # processing failure, resource limitation
_config.STORE_SEND_CHUNKED_DATASET = True  # a file is sent as it is read, and never held whole

log = logging.getLogger(__name__)
Handlers = list[Any]
ThreadHook = Callable[[threading.ExceptHookArgs], object]


@contextmanager
def _understood() -> Iterator[None]:
    """Whatever an answer of no form makes the libraries raise becomes Unreachable; what they warn of, and what ends
    their threads, is not shown."""
    before, threading.excepthook = threading.excepthook, _unless_theirs(threading.excepthook)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ClesrError, OSError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise Unreachable(f"what the archive answers is not understood ({why})") from error
    finally:
        threading.excepthook = before


def _unless_theirs(hook: ThreadHook) -> ThreadHook:
    """``hook`` for all threads but those of an association, whose end is seen by whoever waits for its answer."""

    def told(ended: threading.ExceptHookArgs) -> None:
        if isinstance(ended.thread, Association | DULServiceProvider):
            log.debug(f"a thread of the association ended: {ended.exc_type.__name__}: {ended.exc_value}")
        else:
            hook(ended)

    return told


class DicomNode:
    """The archive with the AE title ``called`` at ``host`` and ``port``; we are ``calling``.

    ``tls`` encrypts. Where ``commit_port`` is given, an archive may say there, in an association of its own, what it
    keeps; ``commit_tls`` encrypts that.
    """

    def __init__(
        self,
        called: str,
        host: str,
        port: int,
        *,
        calling: str,
        tls: ssl.SSLContext | None = None,
        commit_port: int | None = None,
        commit_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = f"dicom://{called}@{host}:{port}"
        self._called, self._host, self._port = called, host, port
        self._calling, self._tls = calling, tls
        self._commit_port, self._commit_tls = commit_port, commit_tls
        self._asked = True  # whether the archive answers queries

    @_understood()
    def holds(self, item: DicomObject) -> bool | None:
        if not self._asked:
            return None
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = item.study, item.series
        query.SOPInstanceUID = item.instance
        with self._associated(FIND, PLAIN) as association:
            if association is None:
                self._asked = False
                return None
            found = False
            for status, answer in association.send_c_find(query, FIND):
                code = status.get("Status")
                if code in (0xFF00, 0xFF01) and answer is not None:
                    found = found or answer.get("SOPInstanceUID") == item.instance
                elif code != 0x0000:
                    self._asked = False  # it does not tell, or not us
                    return None
            return found

    @_understood()
    def store(self, item: DicomObject) -> str:
        with self._associated(item.sop_class, [item.transfer_syntax]) as association:
            if association is None:
                raise SinkError(
                    f"the archive takes no {item.words.split(', ')[1]} in the transfer syntax "
                    f"{item.transfer_syntax}; allow it there, or choose another --sop-class"
                )
            status = association.send_c_store(item.path)
            code = status.get("Status")
        if code is None:
            raise Unreachable(
                "the connection ended before the archive said that it stored the object; if it always does, register "
                f"{self._calling} (--calling-aet) there"
            )
        said = f"status 0x{code:04X}" + (f", {status.ErrorComment}" if "ErrorComment" in status else "")
        if code == 0x0000:
            return ""
        if 0xB000 <= code < 0xC000 or code == 0x0001:
            return f"with a warning ({said})"
        if code in BUSY or code in _NO_MEMORY:
            raise Unreachable(f"the archive cannot store it now ({said})")
        raise SinkError(f"the archive refuses {item.path.name} ({said})")

    @_understood()
    def confirm(self, items: Sequence[DicomObject]) -> str:
        reports: queue.Queue[Dataset] = queue.Queue()

        def report(event: Any) -> tuple[int, None]:
            reports.put(event.event_information)
            return 0x0000, None

        handlers: Handlers = [(evt.EVT_N_EVENT_REPORT, report)]
        request = Dataset()
        request.TransactionUID = generate_uid(prefix=None)
        request.ReferencedSOPSequence = [_reference(item) for item in items]
        with ExitStack() as opened:
            if self._commit_port is not None:
                opened.enter_context(self._listening(self._commit_port, handlers))
            association = opened.enter_context(self._associated(COMMITMENT, PLAIN, handlers))
            if association is None:
                return ""
            status, _ = association.send_n_action(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
            if status.get("Status") != 0x0000:
                return ""
            return _promised(reports, request.TransactionUID, items, self._commit_port)

    @contextmanager
    def _associated(
        self, abstract: str, syntaxes: Sequence[str], handlers: Handlers | None = None
    ) -> Iterator[Association | None]:
        """An association for one SOP class, released at the end; None where the archive does not offer that."""
        entity = AE(ae_title=self._calling)
        entity.connection_timeout = entity.acse_timeout = CONNECT_S
        entity.dimse_timeout = entity.network_timeout = ANSWER_S
        entity.add_requested_context(abstract, list(syntaxes))
        association = entity.associate(
            self._host,
            self._port,
            ae_title=self._called,
            tls_args=(self._tls, self._host) if self._tls else None,
            evt_handlers=handlers or [],
        )
        if association.is_established:
            try:
                yield association
            finally:
                association.release()
            return
        if association.rejected_contexts and not association.accepted_contexts:
            yield None
            return
        raise self._failed(association)

    def _failed(self, association: Association) -> SinkError:
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = answer.reason_str if answer is not None else "no reason given"
            words = f"the archive refuses us as {self._calling} ({reason})"
            if answer is not None and answer.result == 0x01:
                return SinkError(f"{words}; register --calling-aet there, and check the title {self._called}")
            return Unreachable(words)
        secure = "; or it does not trust or speak this TLS" if self._tls else ""
        return Unreachable(
            f"no association with {self._host} port {self._port}: nobody answers there{secure}"
        )

    @contextmanager
    def _listening(self, port: int, handlers: Handlers) -> Iterator[None]:
        entity = AE(ae_title=self._calling)
        entity.require_called_aet = True
        entity.add_supported_context(COMMITMENT, PLAIN, scu_role=False, scp_role=True)
        with told_as(SinkError, f"--commit-port {port} cannot be listened at ({WHY}); choose a free one"):
            server = entity.start_server(
                ("", port), block=False, evt_handlers=handlers, ssl_context=self._commit_tls
            )
        try:
            yield
        finally:
            assert server is not None
            server.shutdown()


def _reference(item: DicomObject) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = item.sop_class, item.instance
    return reference


def _promised(
    reports: queue.Queue[Dataset], transaction: str, items: Sequence[DicomObject], port: int | None
) -> str:
    """What came of a request for storage commitment. Raises SinkError where the archive does not keep an object."""
    while True:
        try:
            report = reports.get(timeout=COMMIT_S if port is None else CALLBACK_S)
        except queue.Empty:
            where = "a --commit-port" if port is None else f"port {port}"
            return (
                f"it took a request for storage commitment and did not answer (it may need {where} to do so)"
            )
        if report.get("TransactionUID") == transaction:
            break
    failed = [reference.ReferencedSOPInstanceUID for reference in report.get("FailedSOPSequence", [])]
    kept = {reference.ReferencedSOPInstanceUID for reference in report.get("ReferencedSOPSequence", [])}
    if failed or not kept.issuperset(item.instance for item in items):
        raise SinkError(
            f"the archive does not commit itself to keep {', '.join(failed) or 'all of them'}; look there"
        )
    return f"it commits itself to keep all {len(items)} objects"
