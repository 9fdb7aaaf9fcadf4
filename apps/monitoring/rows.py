"""The columns of the files of rows: what the prediction log holds, one line a predicted row.

Beside each file of the prediction log stand the rows of its requests, a file a revision. A request
of a hundred rows is a hundred lines here. Values have the type that the version's signature gives:
numbers are float64 (also those of integer columns), the rest text or bool. What a request did not
hold, or held in another type, is null here; `absent` and `wrong` say why.

Readers: baselines' layout counts these columns, quality joins labels to them, the explorer searches
them. Knows no database.
"""

import pyarrow as pa

INPUT = "in."  # + the name of the input
OUTPUT = "out."  # + its place: "out.0", "out.1" of a vector of probabilities

# What stands before the inputs and outputs in each file.
FIXED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        # Its place in the request, from 0; -1: the body could not be read as rows.
        pa.field("row", pa.int32(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
        pa.field("latency_us", pa.int64(), nullable=False),  # of its request
        pa.field("shadow", pa.bool_(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("caller", pa.string()),
        pa.field("absent", pa.list_(pa.string())),  # inputs that the request did not have; or null
        pa.field("wrong", pa.list_(pa.string())),  # inputs of another type than the signature's
        pa.field("extra", pa.list_(pa.string())),  # what the signature does not know
        # Columns of this file whose value was taken out before it was recorded: it is null here and
        # counts as nothing, neither as a value nor as a missing one.
        pa.field("redacted", pa.list_(pa.string())),
    ]
)
# Of one request: 16 MB of zeros are eight million rows, and drift would be judged by nothing else.
# Of a larger one so many are here, evenly spread, the first among them, each with its own place;
# the log has the body whole. `share` stays what it is: sums over requests take one row of each.
MOST_ROWS = 10_000
MOST_COLUMNS = 2_000  # of inputs and outputs together; what is beyond them stays in the log only
