package io.bowstring.spark;

import org.apache.spark.sql.connector.read.Scan;
import org.apache.spark.sql.connector.read.ScanBuilder;
import org.apache.spark.sql.connector.read.SupportsPushDownRequiredColumns;
import org.apache.spark.sql.types.StructType;

/** A read of a stream; only the columns that the query needs are decoded. */
final class StreamScanBuilder implements ScanBuilder, SupportsPushDownRequiredColumns {
  private final String[] options;
  private StructType schema;

  StreamScanBuilder(StructType schema, String[] options) {
    this.schema = schema;
    this.options = options;
  }

  @Override
  public void pruneColumns(StructType required) {
    schema = required;
  }

  @Override
  public Scan build() {
    return new StreamScan(schema, options);
  }
}
