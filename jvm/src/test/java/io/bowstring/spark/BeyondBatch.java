package io.bowstring.spark;

import java.util.Map;
import java.util.function.IntConsumer;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;
import org.apache.spark.sql.vectorized.ColumnVector;
import org.apache.spark.sql.vectorized.ColumnarBatch;

/**
 * Reads the rows of a stream's first batch, and then rows that are not in it, while it is there and when it is gone. Argument: the
 * coordinator's URL; the stream is "s", of a BIGINT and a STRING.
 */
public final class BeyondBatch {
  private BeyondBatch() {}

  /** Runs it. */
  public static void main(String[] arguments) throws Exception {
    String[] options = Options.of(new CaseInsensitiveStringMap(Map.of("url", arguments[0], "stream", "s")));
    StreamSource source = new StreamSource(StructType.fromDDL("id BIGINT, text STRING"), options);
    Offset start = source.initialOffset();
    Offset end = source.latestOffset(start, ReadLimit.allAvailable());
    InputPartition range = source.planInputPartitions(start, end)[0];
    PartitionReader<ColumnarBatch> reader = source.createReaderFactory().createColumnarReader(range);
    reader.next();
    ColumnarBatch batch = reader.get();
    ColumnVector id = batch.column(0);
    ColumnVector text = batch.column(1);
    System.out.println(id.getLong(0) + " " + text.getUTF8String(0));
    for (int row : new int[] {batch.numRows(), -1}) {
      refused(row, id, text);
    }
    reader.close();
    refused(0, id, text);
    source.stop();
  }

  private static void refused(int row, ColumnVector id, ColumnVector text) {
    int refusals = 0;
    for (IntConsumer look : new IntConsumer[] {id::isNullAt, id::getLong, text::getUTF8String, text::getBinary}) {
      try {
        look.accept(row);
      } catch (IndexOutOfBoundsException error) {
        refusals++;
      }
    }
    System.out.println("row " + row + ": " + refusals + " refused");
  }
}
