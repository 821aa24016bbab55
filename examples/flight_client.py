"""A stock Arrow Flight client appends and reads: only the coordinator is bowstring's."""

import pyarrow as pa
import pyarrow.flight as flight

import bowstring

# In real life a process of its own: `bowstring serve`, at grpc://127.0.0.1:8815.
coordinator = bowstring.StreamCoordinator()

with flight.connect(coordinator.url) as client:
    clicks = pa.table({"user": [1, 2, 3], "page": ["home", "cart", "home"]})
    stream = flight.FlightDescriptor.for_path("clicks")  # is created with this schema
    writer, _ = client.do_put(stream, clicks.schema)
    writer.write_table(clicks)
    writer.close()  # returns when all is stored, or raises

    for endpoint in client.get_flight_info(stream).endpoints:  # one per partition
        table = client.do_get(endpoint.ticket).read_all()
        print(f"read {table.num_rows} rows of {table.column_names}")

coordinator.stop()
