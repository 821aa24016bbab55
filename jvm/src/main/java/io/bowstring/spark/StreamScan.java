package io.bowstring.spark;

import java.util.List;
import org.apache.spark.sql.connector.read.Batch;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.Scan;
import org.apache.spark.sql.connector.read.streaming.MicroBatchStream;
import org.apache.spark.sql.types.StructType;

/** A read of a stream: of what is visible now, or of a micro-batch after another. */
final class StreamScan implements Scan, Batch {
  private static final List<String> OF_STREAMS =
      List.of("maxBatchesPerTrigger", "maxBytesPerTrigger", "onOverflow", "failOnProducerLost", "completeOnStop");

  private final StructType schema;
  private final String[] options;
  private InputPartition[] planned;

  StreamScan(StructType schema, String[] options) {
    this.schema = schema;
    this.options = options;
  }

  @Override
  public StructType readSchema() {
    return schema;
  }

  @Override
  public String description() {
    String stream = Options.value(options, "stream");
    return "bowstring " + (stream == null ? Options.value(options, "path") : stream);
  }

  @Override
  public ColumnarSupportMode columnarSupportMode() {
    return ColumnarSupportMode.SUPPORTED;
  }

  @Override
  public MicroBatchStream toMicroBatchStream(String checkpoint) {
    return new StreamSource(schema, options);
  }

  @Override
  public Batch toBatch() {
    for (String name : OF_STREAMS) {
      if (Options.value(options, name) != null) {
        throw new BowstringException(
            "invalid_argument", false, "option '" + name + "' is for streaming queries: a batch read is of what is there; leave it out");
      }
    }
    return this;
  }

  /** Of a batch read. Spark may ask several times, and what is visible may change meanwhile: the first answer stays. */
  @Override
  public synchronized InputPartition[] planInputPartitions() {
    if (planned == null) {
      long source = Native.openSource(options);
      try {
        planned = StreamRange.all(Native.snapshot(source));
      } finally {
        Native.closeSource(source);
      }
    }
    return planned;
  }

  @Override
  public PartitionReaderFactory createReaderFactory() {
    return new RangeReaderFactory(schema.json(), options);
  }
}
