package io.bowstring.spark;

import java.util.Map;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableProvider;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.sources.DataSourceRegister;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * What {@code format("bowstring")} stands for: {@code readStream}, {@code writeStream}, {@code read} and {@code write} of a stream, pushed
 * and pulled by the executors themselves.
 *
 * <p>Options {@code url} and {@code stream} are needed; the README lists all.
 */
public final class BowstringProvider implements TableProvider, DataSourceRegister {
  /** Spark makes one by itself. */
  public BowstringProvider() {
    NativeLibrary.check();
  }

  @Override
  public String shortName() {
    return "bowstring";
  }

  /** A reader may name the columns that it wants, and a writer brings its own. */
  @Override
  public boolean supportsExternalMetadata() {
    return true;
  }

  /** The stream's schema, from the coordinator. */
  @Override
  public StructType inferSchema(CaseInsensitiveStringMap options) {
    long source = Native.openSource(Options.of(options));
    try {
      return (StructType) StructType.fromJson(Native.sparkSchema(source));
    } finally {
      Native.closeSource(source);
    }
  }

  @Override
  public Table getTable(StructType schema, Transform[] partitioning, Map<String, String> properties) {
    return StreamTable.ofFormat(schema, new CaseInsensitiveStringMap(properties));
  }
}
