package io.bowstring.spark;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.spark.sql.connector.catalog.TableCatalog;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/** Options on their way to the library, which knows and checks them. */
final class Options {
  /** What Spark's own catalog adds to the options of a table that is {@code USING bowstring}, and each option once more with a prefix. */
  private static final Set<String> OF_CATALOG = Set.of(TableCatalog.PROP_PROVIDER, TableCatalog.PROP_OWNER);

  private Options() {}

  /** Names and values in turn. */
  static String[] of(CaseInsensitiveStringMap given) {
    List<String> flat = new ArrayList<>();
    for (Map.Entry<String, String> entry : given.asCaseSensitiveMap().entrySet()) {
      if (OF_CATALOG.contains(entry.getKey()) || entry.getKey().startsWith(TableCatalog.OPTION_PREFIX)) {
        continue;
      }
      flat.add(entry.getKey());
      flat.add(entry.getValue());
    }
    return flat.toArray(new String[0]);
  }

  /** The same of two maps; where both have a name the second's value counts. */
  static String[] of(CaseInsensitiveStringMap first, CaseInsensitiveStringMap second) {
    Map<String, String> all = new HashMap<>(first);
    all.putAll(second);
    return of(new CaseInsensitiveStringMap(all));
  }

  /** The value of one of them; null if it was not given. */
  static String value(String[] options, String name) {
    for (int at = 0; at + 1 < options.length; at += 2) {
      if (options[at].equalsIgnoreCase(name) && !options[at + 1].isBlank()) {
        return options[at + 1].trim();
      }
    }
    return null;
  }
}
