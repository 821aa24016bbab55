package io.bowstring.spark;

import java.util.EnumSet;
import java.util.Set;
import org.apache.spark.sql.connector.catalog.SupportsRead;
import org.apache.spark.sql.connector.catalog.SupportsWrite;
import org.apache.spark.sql.connector.catalog.TableCapability;
import org.apache.spark.sql.connector.read.ScanBuilder;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.WriteBuilder;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/** A stream, as Spark sees it. */
final class StreamTable implements SupportsRead, SupportsWrite {
  private static final Set<TableCapability> CAPABILITIES =
      Set.of(
          TableCapability.BATCH_READ,
          TableCapability.MICRO_BATCH_READ,
          TableCapability.BATCH_WRITE,
          TableCapability.STREAMING_WRITE,
          TableCapability.TRUNCATE);

  private final StructType schema;

  /** Those of the table: with a catalog, the others come with each read and write. */
  private final CaseInsensitiveStringMap options;

  private final Set<TableCapability> capabilities;

  private StreamTable(StructType schema, CaseInsensitiveStringMap options, Set<TableCapability> capabilities) {
    this.schema = schema;
    this.options = options;
    this.capabilities = capabilities;
  }

  /** Of {@code format("bowstring")}: a writer brings its own columns. */
  static StreamTable ofFormat(StructType schema, CaseInsensitiveStringMap options) {
    Set<TableCapability> capabilities = EnumSet.copyOf(CAPABILITIES);
    capabilities.add(TableCapability.ACCEPT_ANY_SCHEMA);
    return new StreamTable(schema, options, capabilities);
  }

  /** Of a catalog: Spark makes of what is inserted the columns that the stream has, as SQL has it. */
  static StreamTable ofCatalog(StructType schema, CaseInsensitiveStringMap options) {
    return new StreamTable(schema, options, CAPABILITIES);
  }

  @Override
  public String name() {
    String stream = options.getOrDefault("stream", options.getOrDefault("path", "?"));
    return "bowstring " + stream + " at " + options.getOrDefault("url", "?");
  }

  @Override
  @SuppressWarnings("deprecation")
  public StructType schema() {
    return schema;
  }

  @Override
  public Set<TableCapability> capabilities() {
    return capabilities;
  }

  @Override
  public ScanBuilder newScanBuilder(CaseInsensitiveStringMap given) {
    return new StreamScanBuilder(schema, Options.of(options, given));
  }

  @Override
  public WriteBuilder newWriteBuilder(LogicalWriteInfo info) {
    return new StreamWriteBuilder(info, Options.of(options, info.options()));
  }
}
