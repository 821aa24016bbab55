package io.bowstring.spark;

import java.util.HashMap;
import java.util.Map;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableProvider;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * The connector with points where a test steps in: format("io.bowstring.spark.WatchedProvider"). Its own options are {@code points}, their
 * folder, and {@code executorsUrl}, where tasks find the coordinator if not where the driver does.
 */
public final class WatchedProvider implements TableProvider {
  private static final String POINTS = "points";
  private static final String EXECUTORS_URL = "executorsUrl";

  private final BowstringProvider watched = new BowstringProvider();

  /** Spark makes one by itself. */
  public WatchedProvider() {}

  @Override
  public boolean supportsExternalMetadata() {
    return true;
  }

  @Override
  public StructType inferSchema(CaseInsensitiveStringMap options) {
    return watched.inferSchema(ofConnector(options));
  }

  @Override
  public Table getTable(StructType schema, Transform[] partitioning, Map<String, String> properties) {
    CaseInsensitiveStringMap given = new CaseInsensitiveStringMap(properties);
    Points points = new Points(given.get(POINTS), given.get("stream"));
    Table table = watched.getTable(schema, partitioning, ofConnector(given));
    return (Table) Watched.of(table, points, given.get(EXECUTORS_URL), null);
  }

  /** What the connector knows. */
  static CaseInsensitiveStringMap ofConnector(CaseInsensitiveStringMap given) {
    Map<String, String> rest = new HashMap<>(given.asCaseSensitiveMap());
    rest.keySet().removeIf(name -> name.equalsIgnoreCase(POINTS) || name.equalsIgnoreCase(EXECUTORS_URL));
    return new CaseInsensitiveStringMap(rest);
  }
}
