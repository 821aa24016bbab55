package io.bowstring.spark;

import org.apache.spark.sql.connector.read.InputPartition;

/** What one task reads: batches [start, end) of one partition of the stream with this id. */
record StreamRange(long partition, long start, long end, long streamId) implements InputPartition {
  private static final int NUMBERS = 4;

  /** Ranges as the library gives them: four numbers each. */
  static InputPartition[] all(long[] numbers) {
    InputPartition[] ranges = new InputPartition[numbers.length / NUMBERS];
    for (int index = 0; index < ranges.length; index++) {
      int at = index * NUMBERS;
      ranges[index] = new StreamRange(numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]);
    }
    return ranges;
  }

  long[] numbers() {
    return new long[] {partition, start, end, streamId};
  }
}
