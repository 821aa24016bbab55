package io.bowstring.spark;

import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.streaming.MicroBatchStream;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.read.streaming.ReadAllAvailable;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.connector.read.streaming.SupportsAdmissionControl;
import org.apache.spark.sql.connector.read.streaming.SupportsTriggerAvailableNow;
import org.apache.spark.sql.types.StructType;

/** A streaming query's source: it plans on the driver; each range is read by a task of its own. */
final class StreamSource implements MicroBatchStream, SupportsAdmissionControl, SupportsTriggerAvailableNow {
  /** Spark asks every 10 ms while there is nothing new; the coordinator is asked this often. */
  private static final long IDLE_MILLIS = 50;

  private final String schema;
  private final String[] options;
  private final boolean isLimited;
  private final long source;
  private boolean isAvailableNow;

  /** When nothing new was found, by {@link System#nanoTime}; 0 if something was. */
  private long idleSince;

  StreamSource(StructType schema, String[] options) {
    this.schema = schema.json();
    this.options = options;
    isLimited = Options.value(options, "maxBatchesPerTrigger") != null || Options.value(options, "maxBytesPerTrigger") != null;
    if (Options.value(options, "endingOffsets") != null) {
      throw new BowstringException(
          "invalid_argument", false, "option 'endingOffsets' is for batch reads: a streaming query ends by its trigger; leave it out");
    }
    source = Native.openSource(options);
  }

  @Override
  public Offset initialOffset() {
    return new StreamOffset(Native.initialOffset(source));
  }

  @Override
  public Offset deserializeOffset(String json) {
    return new StreamOffset(Native.normalOffset(source, json));
  }

  @Override
  public Offset latestOffset() {
    throw new UnsupportedOperationException("Spark asks with a limit");
  }

  /** Tells Spark that there is a limit of our own, if there is; its number is not looked at. */
  @Override
  public ReadLimit getDefaultReadLimit() {
    return isLimited ? ReadLimit.maxFiles(1) : ReadLimit.allAvailable();
  }

  @Override
  public void prepareForTriggerAvailableNow() {
    isAvailableNow = true;
    Native.prepareAvailableNow(source);
  }

  @Override
  public Offset latestOffset(Offset start, ReadLimit limit) {
    idle();
    String found = Native.latestOffset(source, start.json(), !(limit instanceof ReadAllAvailable));
    idleSince = found == null ? System.nanoTime() : 0;
    return found == null ? start : new StreamOffset(found);
  }

  /** Waits out the rest of the interval between two questions that found nothing new. */
  private void idle() {
    if (idleSince == 0 || isAvailableNow) {
      return;
    }
    long rest = IDLE_MILLIS - (System.nanoTime() - idleSince) / 1_000_000;
    if (rest <= 0) {
      return;
    }
    try {
      Thread.sleep(rest);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new UncheckedIOException(new InterruptedIOException("the query was stopped"));
    }
  }

  @Override
  public InputPartition[] planInputPartitions(Offset start, Offset end) {
    return StreamRange.all(Native.ranges(source, start.json(), end.json()));
  }

  @Override
  public PartitionReaderFactory createReaderFactory() {
    return new RangeReaderFactory(schema, options);
  }

  @Override
  public void commit(Offset end) {
    Native.commitOffset(source, end.json());
  }

  @Override
  public void stop() {
    Native.stopSource(source);
  }
}
