package io.bowstring.spark;

import org.apache.spark.sql.connector.read.streaming.Offset;

/** An offset as the checkpoint has it; the Python data source writes and reads the same. Spark compares the text. */
final class StreamOffset extends Offset {
  private final String json;

  StreamOffset(String json) {
    this.json = json;
  }

  @Override
  public String json() {
    return json;
  }
}
