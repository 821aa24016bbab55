package io.bowstring.spark;

import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.apache.spark.sql.catalyst.analysis.NoSuchTableException;
import org.apache.spark.sql.catalyst.analysis.TableAlreadyExistsException;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableCatalog;
import org.apache.spark.sql.connector.catalog.TableChange;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * The streams of a coordinator as tables of SQL: {@code spark.sql.catalog.bowstring=io.bowstring.spark.BowstringCatalog} and
 * {@code spark.sql.catalog.bowstring.url=grpc://host:port}; then {@code SELECT * FROM bowstring.clicks}, {@code INSERT INTO},
 * {@code spark.readStream.table("bowstring.clicks")}, {@code writeStream.toTable}, {@code CREATE TABLE bowstring.clicks (user BIGINT)
 * TBLPROPERTIES (partitions=4)} and {@code DROP TABLE}, which deletes the stream.
 */
public final class BowstringCatalog implements TableCatalog {
  /** What Spark sets by itself; a stream has no such thing. */
  private static final Set<String> OF_SPARK =
      Set.of(PROP_PROVIDER, PROP_OWNER, PROP_COMMENT, PROP_LOCATION, PROP_IS_MANAGED_LOCATION, PROP_EXTERNAL, "table_type", "collation");

  private static final String NAMES_OF_STREAM = "partitions, maxBufferedBatches, maxBufferedBytes, maxSpoolBytes";
  private static final Set<String> OF_STREAM = Set.of(NAMES_OF_STREAM.toLowerCase(Locale.ROOT).split(", "));
  private static final String NAMES_OF_CATALOG = "url, connectTimeout, localSocket, tlsCa, tlsCert, tlsKey, tlsServerName, tokenFile";
  private static final Set<String> OF_CATALOG = Set.of(NAMES_OF_CATALOG.toLowerCase(Locale.ROOT).split(", "));

  private String name;
  private Map<String, String> options;

  /** Spark makes one by itself. */
  public BowstringCatalog() {}

  @Override
  public void initialize(String name, CaseInsensitiveStringMap options) {
    NativeLibrary.check();
    this.name = name;
    for (String option : options.keySet()) {
      if (!OF_CATALOG.contains(option.toLowerCase(Locale.ROOT))) {
        throw refused(
            "the catalog " + name + " has the option '" + option + "'; it takes " + NAMES_OF_CATALOG + ", and all others come with each read and"
                + " write");
      }
    }
    this.options = Map.copyOf(options.asCaseSensitiveMap());
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public Identifier[] listTables(String[] namespace) {
    if (namespace.length != 0) {
      return new Identifier[0];
    }
    String[] streams = Native.streams(Options.of(table("any", Map.of())));
    return Stream.of(streams).map(stream -> Identifier.of(namespace, stream)).toArray(Identifier[]::new);
  }

  /** Also of a stream without a schema, which cannot be read yet. */
  @Override
  public boolean tableExists(Identifier table) {
    return table.namespace().length == 0 && Native.hasStream(Options.of(table(table.name(), Map.of())));
  }

  @Override
  public Table loadTable(Identifier table) throws NoSuchTableException {
    if (!tableExists(table)) {
      throw new NoSuchTableException(table);
    }
    CaseInsensitiveStringMap all = table(table.name(), Map.of());
    return StreamTable.ofCatalog(new BowstringProvider().inferSchema(all), all);
  }

  @Override
  @Deprecated
  public Table createTable(Identifier table, StructType schema, Transform[] partitions, Map<String, String> properties)
      throws TableAlreadyExistsException {
    if (table.namespace().length != 0 || partitions.length != 0) {
      throw refused("CREATE TABLE " + table + ": streams have no namespace, and are routed when they are written; leave both out");
    }
    Map<String, String> own = new HashMap<>();
    properties.forEach(
        (key, value) -> {
          String property = key.startsWith(OPTION_PREFIX) ? key.substring(OPTION_PREFIX.length()) : key;
          String lower = property.toLowerCase(Locale.ROOT);
          if (!OF_SPARK.contains(lower) && !OF_STREAM.contains(lower)) {
            throw refused("CREATE TABLE " + table + ": '" + property + "' is no property of a stream; those are: " + NAMES_OF_STREAM);
          }
          if (OF_STREAM.contains(lower)) {
            own.put(property, value);
          }
        });
    CaseInsensitiveStringMap all = table(table.name(), own);
    if (tableExists(table)) {
      throw new TableAlreadyExistsException(table);
    }
    Native.prepareSink(Options.of(all), schema.json());
    return StreamTable.ofCatalog(schema, table(table.name(), Map.of()));
  }

  @Override
  public Table alterTable(Identifier table, TableChange... changes) {
    throw refused("ALTER TABLE " + table + ": a stream's schema changes by what is appended (schema_policy), its options never");
  }

  @Override
  public boolean dropTable(Identifier table) {
    return table.namespace().length == 0 && Native.deleteStream(Options.of(table(table.name(), Map.of())));
  }

  @Override
  public void renameTable(Identifier from, Identifier to) {
    throw refused("RENAME TABLE " + from + ": a stream keeps its name; create another one");
  }

  private static BowstringException refused(String text) {
    return new BowstringException("invalid_argument", false, text);
  }

  /** All options of a stream: the catalog's, its name, and more. */
  private CaseInsensitiveStringMap table(String stream, Map<String, String> more) {
    Map<String, String> all = new HashMap<>(options);
    all.put("stream", stream);
    all.putAll(more);
    return new CaseInsensitiveStringMap(all);
  }
}
