package io.bowstring.spark;

import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow;
import org.apache.spark.sql.catalyst.util.GenericArrayData;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.ArrowUtils;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;
import org.apache.spark.sql.vectorized.ColumnarBatch;
import org.apache.spark.unsafe.types.UTF8String;

/**
 * What the tasks and the driver of so many micro-batches do, through the sink and back through the source, in a JVM without Spark around
 * it. Now and then it says what is held, and how much memory the process has.
 *
 * <p>Arguments: the coordinator's URL, how many, how often it says what is held, and "leak" if one batch is not to be let go.
 */
public final class ManyBatches {
  private static final String STREAM = "many";
  private static final long PAGE = 4096;

  private final String[] options;
  private final StructType schema = StructType.fromDDL("id BIGINT, text STRING, list ARRAY<INT>");

  private ManyBatches(String url) {
    options = Options.of(new CaseInsensitiveStringMap(java.util.Map.of("url", url, "stream", STREAM)));
  }

  /** Runs it. */
  public static void main(String[] arguments) throws Exception {
    int count = Integer.parseInt(arguments[1]);
    int every = Integer.parseInt(arguments[2]);
    new ManyBatches(arguments[0]).run(count, every, arguments.length > 3);
  }

  private void run(int count, int every, boolean leaks) throws Exception {
    StreamSource source = null;
    Offset at = null;
    for (int epoch = 0; epoch < count; epoch++) {
      write(epoch);
      if (source == null) {
        source = new StreamSource(schema, options);
        at = source.initialOffset();
      }
      Offset end = source.latestOffset(at, ReadLimit.allAvailable());
      for (InputPartition range : source.planInputPartitions(at, end)) {
        read(source.createReaderFactory(), range, epoch, leaks && epoch == count / 2);
      }
      source.commit(end);
      at = end;
      if ((epoch + 1) % every == 0) {
        tell(epoch + 1);
      }
    }
    source.stop();
  }

  /** A query that starts has a plan of its own for each micro-batch, as this has. */
  private void write(int epoch) throws Exception {
    SinkPlan plan = SinkPlan.prepare(options, schema);
    EpochIdentity identity = new EpochIdentity("many", "run", epoch);
    WriterCommitMessage[] messages = new WriterCommitMessage[2];
    TaskWriterFactory factory = new TaskWriterFactory(plan, identity, false);
    for (int task = 0; task < messages.length; task++) {
      try (DataWriter<InternalRow> writer = factory.createWriter(task, task, epoch)) {
        for (int row = 0; row < 10; row++) {
          UTF8String text = row == 3 ? null : UTF8String.fromString("row " + row + " of " + epoch);
          writer.write(new GenericInternalRow(new Object[] {(long) epoch, text, new GenericArrayData(new int[] {row, epoch})}));
        }
        if (epoch % 10 == 9 && task == 1) {
          writer.abort();
        } else {
          messages[task] = writer.commit();
        }
      }
    }
    if (messages[1] == null) {
      messages[1] = TaskResult.of(null);
    }
    plan.commit(identity, messages);
  }

  private static void read(PartitionReaderFactory factory, InputPartition range, int epoch, boolean leaks) throws Exception {
    PartitionReader<ColumnarBatch> reader = factory.createColumnarReader(range);
    int rows = 0;
    while (reader.next()) {
      ColumnarBatch batch = reader.get();
      for (int row = 0; row < batch.numRows(); row++) {
        check(batch.column(0).getLong(row) == epoch);
        check(batch.column(2).getArray(row).getInt(1) == epoch);
      }
      rows += batch.numRows();
      if (leaks) {
        return;
      }
    }
    check(rows == (epoch % 10 == 9 ? 10 : 20));
    reader.close();
  }

  private static void check(boolean holds) {
    if (!holds) {
      throw new AssertionError("other rows came back");
    }
  }

  private static void tell(int epochs) throws Exception {
    System.gc();
    long resident = Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * PAGE;
    long arrow = ArrowUtils.rootAllocator().getAllocatedMemory();
    System.out.println(
        "{\"epochs\": " + epochs + ", \"batches\": " + Native.batchesHeld() + ", \"arrow\": " + arrow + ", \"resident\": " + resident + "}");
  }
}
