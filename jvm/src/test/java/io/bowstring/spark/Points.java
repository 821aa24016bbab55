package io.bowstring.spark;

import java.io.IOException;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/**
 * Points in a query's course where a test steps in: files in a folder, as {@code points.py} has them. Whoever reaches a point that is armed
 * waits there until the test lets it go on, or fails there, once.
 */
record Points(String folder, String stream) implements Serializable {
  private static final long PATIENCE_SECONDS = 120;
  private static final long LOOK_MILLIS = 10;

  void reach(String what, Object at) {
    String name = stream + "-" + what + "-" + at;
    Path armed = Path.of(folder, name + ".armed");
    String how;
    try {
      how = Files.readString(armed);
      Files.move(armed, Path.of(folder, name + ".reached"));
    } catch (NoSuchFileException notArmedOrAnotherWasFirst) {
      return;
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    if (how.equals("die")) {
      throw new IllegalStateException("died at " + name);
    }
    waitFor(Path.of(folder, name + ".passed"));
  }

  private static void waitFor(Path passed) {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (!Files.exists(passed)) {
      if (System.nanoTime() > deadline) {
        throw new IllegalStateException("nobody came to " + passed);
      }
      try {
        Thread.sleep(LOOK_MILLIS);
      } catch (InterruptedException error) {
        throw new IllegalStateException("stopped before " + passed, error);
      }
    }
  }
}
