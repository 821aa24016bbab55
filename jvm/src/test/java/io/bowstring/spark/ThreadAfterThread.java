package io.bowstring.spark;

import java.io.File;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.Arrays;

/**
 * Threads that use the library one after the other: each ends before the next begins, so that the next gets its place in memory, and with
 * it its id. The first has loaded the library. Then the same with classes of two more class loaders, as Spark has one per session.
 */
public final class ThreadAfterThread {
  private static final int THREADS = 20;

  private ThreadAfterThread() {}

  /** Runs it. */
  public static void main(String[] arguments) throws Exception {
    use();
    for (int loader = 0; loader < 2; loader++) {
      try (URLClassLoader apart = new URLClassLoader(classPath(), ClassLoader.getPlatformClassLoader())) {
        apart.loadClass(ThreadAfterThread.class.getName()).getMethod("use").invoke(null);
      }
      System.gc();
    }
    use();
    System.out.println("all have ended");
  }

  /** Uses it from one thread after the other. */
  public static void use() throws InterruptedException {
    for (int number = 0; number < THREADS; number++) {
      int[] bytes = new int[1];
      // What a query that is being stopped does first may be to load it.
      Thread thread =
          new Thread(
              () -> {
                Thread.currentThread().interrupt();
                bytes[0] = Native.arrowSchema("{\"type\":\"struct\",\"fields\":[]}").length;
              });
      thread.start();
      thread.join();
      if (bytes[0] == 0) {
        throw new AssertionError("thread " + number + " has failed");
      }
    }
  }

  private static URL[] classPath() {
    String[] parts = System.getProperty("java.class.path").split(File.pathSeparator);
    return Arrays.stream(parts).map(ThreadAfterThread::url).toArray(URL[]::new);
  }

  private static URL url(String part) {
    try {
      return new File(part).toURI().toURL();
    } catch (MalformedURLException error) {
      throw new IllegalStateException(error);
    }
  }
}
