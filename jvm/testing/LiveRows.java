package io.bowstring.testing;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.LockSupport;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.ForeachWriter;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.execution.streaming.sources.LowLatencyMemoryStream;
import scala.Tuple2;
import scala.jdk.javaapi.CollectionConverters;

/**
 * Rows for Spark's Real-time Mode, from the one source of Spark's own for it that needs no server. It lies in the driver's memory, and each
 * of its tasks looks every 10 ms whether there is more. A row is a number, from 0, and when it was made, in nanoseconds of the machine's
 * monotonic clock (as {@code time.monotonic_ns()} of Python has them).
 *
 * <p>For tests and benchmarks, in local mode; compiled by those who use it, and no part of the connector.
 */
public final class LiveRows {
  private final LowLatencyMemoryStream<Tuple2<Long, Long>> stream;
  private long next;

  public LiveRows(SparkSession spark, int partitions) {
    stream = LowLatencyMemoryStream.apply((org.apache.spark.sql.SparkSession) spark, partitions, Encoders.tuple(Encoders.LONG(), Encoders.LONG()));
  }

  /** Columns id and made_at. */
  public Dataset<Row> frame() {
    return ((Dataset<?>) stream.toDF()).toDF("id", "made_at");
  }

  /** Makes so many rows now. */
  public synchronized void add(int rows) {
    List<Tuple2<Long, Long>> made = new ArrayList<>();
    for (int row = 0; row < rows; row++) {
      made.add(new Tuple2<>(next++, System.nanoTime()));
    }
    stream.addData(CollectionConverters.asScala(made));
  }

  /** Makes so many rows per second, each when it is due, and returns when all are made. */
  public void run(int perSecond, int rows) {
    long begun = System.nanoTime();
    for (int row = 0; row < rows; row++) {
      long due = begun + row * 1_000_000_000L / perSecond;
      while (System.nanoTime() < due) {
        LockSupport.parkNanos(due - System.nanoTime());
      }
      add(1);
    }
  }

  /** Spark's own way to see each row at once, in the task: how old rows are there. */
  public static final class Ages extends ForeachWriter<Row> {
    private static final long serialVersionUID = 1L;
    private static final ConcurrentLinkedQueue<Long> NANOS = new ConcurrentLinkedQueue<>();

    @Override
    public boolean open(long partition, long epoch) {
      return true;
    }

    @Override
    public void process(Row row) {
      NANOS.add(System.nanoTime() - row.getLong(1));
    }

    @Override
    public void close(Throwable error) {}

    /** How many rows came since the ages were last taken. */
    public static int count() {
      return NANOS.size();
    }

    /** Their ages in nanoseconds, with spaces between them: Python gets a text at once, and an array number by number. */
    public static String take() {
      StringBuilder taken = new StringBuilder();
      for (Long age = NANOS.poll(); age != null; age = NANOS.poll()) {
        taken.append(age).append(' ');
      }
      return taken.toString();
    }
  }
}
