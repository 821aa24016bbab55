package io.bowstring.spark;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.locks.LockSupport;

/**
 * Loads the native library out of the jar. Each class loader that has these classes loads a copy of its own: the JVM lets a file be loaded
 * by one class loader only.
 *
 * <p>A thread that does nothing else loads it, and never ends: the library's allocator (mimalloc 3.3) takes that thread for the process's
 * main one. When it has ended and another thread gets its id, as threads of queries and of py4j do, that one would crash the JVM
 * (github.com/microsoft/mimalloc/issues/1287).
 */
final class NativeLibrary {
  private NativeLibrary() {}

  /** Why it could not be loaded; null if it was. */
  private static volatile String failure;

  /** Throws what hindered it from being loaded, if anything: to be called before the first call of {@link Native}. */
  static void check() {
    Native.touch();
    if (failure != null) {
      throw new BowstringException("unimplemented", false, failure);
    }
  }

  /** Does not throw: a class whose initializer has thrown says why the first time only. */
  static void load() {
    try {
      loadInThread();
    } catch (RuntimeException | LinkageError error) {
      failure = "bowstring's native library cannot be loaded: " + error.getMessage();
    }
  }

  private static void loadInThread() {
    CompletableFuture<Void> loaded = new CompletableFuture<>();
    Thread loader = new Thread(() -> loadAndStay(loaded), "bowstring-native");
    loader.setDaemon(true);
    // It holds no more than it needs of whoever comes first.
    loader.setContextClassLoader(null);
    loader.start();
    try {
      loaded.join();
    } catch (CompletionException error) {
      if (error.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      throw (Error) error.getCause();
    }
  }

  private static void loadAndStay(CompletableFuture<Void> loaded) {
    try {
      loadHere();
    } catch (Throwable error) {
      loaded.completeExceptionally(error);
      return;
    }
    loaded.complete(null);
    while (true) {
      LockSupport.park();
    }
  }

  private static void loadHere() {
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
    } catch (LinkageError error) {
      throw new BowstringException(
          "internal", false, error + "; set java.io.tmpdir to a folder from which programs may be run, if it is not the platform");
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
