"""A service in memory for the tests of your own code. **It trains nothing**, and every document says so.

Data sets are read, configs are checked by the service's own rules and refused with the same problem
documents, jobs end as told, and the errors that a client raises are the real ones. A model predicts what it
was told to, else the constant that its target column suggests. Blocking and asyncio clients take the same
object as their transport:

    from gradkeel import Client
    from gradkeel.testing import FakeService

    service = FakeService()
    service.next_job(state="failed", code="diverged")
    with Client(transport=service) as client:
        data = client.datasets.upload(b"size,price\\n1,2\\n2,4\\n", name="homes.csv")
        job = client.jobs.create(data, target="price")
        job.wait()                              # raises JobFailed

CSV (with a comma), JSON lines and, where pyarrow is installed, Parquet are read. Keys, usage, batches,
resumable uploads and the series of a job are not played: asking for them is answered 404 with a word about
that.
"""

from gradkeel.testing.outcomes import JobOutcome
from gradkeel.testing.service import FakeService, Seen

__all__ = ["FakeService", "JobOutcome", "Seen"]
