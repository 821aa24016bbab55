package io.bowstring.spark;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/** Options on their way to the library, which knows and checks them. */
final class Options {
  private Options() {}

  /** Names and values in turn. */
  static String[] of(CaseInsensitiveStringMap given) {
    List<String> flat = new ArrayList<>();
    for (Map.Entry<String, String> entry : given.asCaseSensitiveMap().entrySet()) {
      flat.add(entry.getKey());
      flat.add(entry.getValue());
    }
    return flat.toArray(new String[0]);
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
