package io.bowstring.spark;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Locale;

/**
 * Loads the native library out of the jar. Each class loader that has these classes loads a copy of its own: the JVM lets a file be loaded
 * by one class loader only.
 */
final class NativeLibrary {
  private NativeLibrary() {}

  static void load() {
    String resource = "native/" + platform() + "/" + System.mapLibraryName("bowstring_jvm");
    Path file = null;
    try (InputStream library = NativeLibrary.class.getResourceAsStream(resource)) {
      if (library == null) {
        throw new BowstringException(
            "unimplemented",
            false,
            "this jar of bowstring has no native library for " + platform() + "; use the jar of a wheel that was built for it");
      }
      file = Files.createTempFile("bowstring-", "-" + System.mapLibraryName("bowstring_jvm"));
      Files.copy(library, file, StandardCopyOption.REPLACE_EXISTING);
      System.load(file.toString());
    } catch (IOException error) {
      throw new BowstringException(
          "internal",
          false,
          "the native library cannot be written to " + System.getProperty("java.io.tmpdir") + ": " + error + "; set java.io.tmpdir");
    } finally {
      delete(file);
    }
  }

  /** Where a loaded library cannot be removed (Windows), it goes with the JVM. */
  private static void delete(Path file) {
    if (file != null && !file.toFile().delete()) {
      file.toFile().deleteOnExit();
    }
  }

  /** For instance {@code linux-x86_64}. */
  static String platform() {
    String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String processor = System.getProperty("os.arch").toLowerCase(Locale.ROOT);
    String name = system.startsWith("mac") ? "macos" : system.startsWith("windows") ? "windows" : system;
    String architecture = processor.equals("amd64") ? "x86_64" : processor.equals("arm64") ? "aarch64" : processor;
    return name + "-" + architecture;
  }
}
