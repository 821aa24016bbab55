package io.bowstring.spark;

import java.io.Serializable;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.spark.SparkContext;
import org.apache.spark.TaskContext;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.Scan;
import org.apache.spark.sql.connector.read.ScanBuilder;
import org.apache.spark.sql.connector.read.streaming.MicroBatchStream;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.write.BatchWrite;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.DataWriterFactory;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.Write;
import org.apache.spark.sql.connector.write.WriteBuilder;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * One of the connector's objects, and all that it gives, with points: {@code appending} in a task after some rows, {@code staged} at its
 * end, {@code committing} and {@code committed} on the driver, with the epoch behind; {@code planning} and {@code planned} around
 * latestOffset, {@code acking} and {@code acked} around commit, with the batches before in all partitions; {@code reading} in a task after
 * its first batch, with those before in its partition.
 */
final class Watched implements InvocationHandler, Serializable {
  private static final long serialVersionUID = 1L;
  private static final String EPOCH = "streaming.sql.batchId";

  /** A task has appended its first batch by then, and not its last: batches are of 100 rows in these tests. */
  private static final int APPENDING_ROWS = 150;

  private static final Pattern ENDS = Pattern.compile("\"ends\": ?\\{([^}]*)\\}");
  private static final List<Class<?>> WATCHED =
      List.of(
          Table.class,
          ScanBuilder.class,
          Scan.class,
          MicroBatchStream.class,
          PartitionReaderFactory.class,
          PartitionReader.class,
          WriteBuilder.class,
          Write.class,
          StreamingWrite.class,
          BatchWrite.class,
          DataWriterFactory.class,
          StreamingDataWriterFactory.class,
          DataWriter.class);

  private final Object target;
  private final Points points;
  private final String executorsUrl;

  /** A reader's range. */
  private final StreamRange range;

  private int batches;

  private Watched(Object target, Points points, String executorsUrl, StreamRange range) {
    this.target = target;
    this.points = points;
    this.executorsUrl = executorsUrl;
    this.range = range;
  }

  /** The object itself, if it is not one of those that have points, or give what has. */
  static Object of(Object target, Points points, String executorsUrl, StreamRange range) {
    if (WATCHED.stream().noneMatch(watched -> watched.isInstance(target))) {
      return target;
    }
    Class<?>[] interfaces = target.getClass().getInterfaces();
    return Proxy.newProxyInstance(Watched.class.getClassLoader(), interfaces, new Watched(target, points, executorsUrl, range));
  }

  @Override
  public Object invoke(Object proxy, Method method, Object[] given) throws Throwable {
    Object[] arguments = given == null ? new Object[0] : given;
    switch (method.getName()) {
      case "newScanBuilder" -> arguments[0] = WatchedProvider.ofConnector((CaseInsensitiveStringMap) arguments[0]);
      case "newWriteBuilder" -> arguments[0] = ofConnector((LogicalWriteInfo) arguments[0]);
      case "createWriter" -> sendToExecutorsUrl();
      case "writeAll" -> arguments[0] = appending((Iterator<?>) arguments[0]);
      case "latestOffset" -> points.reach("planning", batchesUntil(arguments[0]));
      case "next" -> reading();
      case "commit" -> before(arguments);
      default -> {}
    }
    Object result = call(method, arguments);
    switch (method.getName()) {
      case "latestOffset" -> points.reach("planned", batchesUntil(arguments[0]));
      case "commit" -> after(arguments);
      default -> {}
    }
    StreamRange of = arguments.length > 0 && arguments[0] instanceof StreamRange found ? found : null;
    return of(result, points, executorsUrl, of);
  }

  private Object call(Method method, Object[] arguments) throws Throwable {
    try {
      return method.invoke(target, arguments);
    } catch (InvocationTargetException error) {
      throw error.getCause();
    }
  }

  private void before(Object[] arguments) {
    if (target instanceof MicroBatchStream) {
      points.reach("acking", batchesUntil(arguments[0]));
    } else if (!(target instanceof DataWriter)) {
      points.reach("committing", epochOnDriver(arguments));
    }
  }

  private void after(Object[] arguments) {
    if (target instanceof MicroBatchStream) {
      points.reach("acked", batchesUntil(arguments[0]));
    } else if (target instanceof DataWriter) {
      points.reach("staged", TaskContext.get().getLocalProperty(EPOCH));
    } else {
      points.reach("committed", epochOnDriver(arguments));
    }
  }

  private static Object epochOnDriver(Object[] arguments) {
    return arguments[0] instanceof Long epoch ? epoch : SparkContext.getOrCreate().getLocalProperty(EPOCH);
  }

  private Iterator<Object> appending(Iterator<?> rows) {
    return new Iterator<>() {
      private int count;

      @Override
      public boolean hasNext() {
        return rows.hasNext();
      }

      @Override
      public Object next() {
        if (++count == APPENDING_ROWS) {
          points.reach("appending", TaskContext.get().getLocalProperty(EPOCH));
        }
        return rows.next();
      }
    };
  }

  private void reading() {
    if (batches++ == 1) {
      points.reach("reading", range.start());
    }
  }

  /** The task has a copy of the plan of its own. */
  private void sendToExecutorsUrl() throws ReflectiveOperationException {
    if (executorsUrl == null) {
      return;
    }
    Field field = target.getClass().getDeclaredField("plan");
    field.setAccessible(true);
    String[] options = ((SinkPlan) field.get(target)).options;
    options[Arrays.asList(options).indexOf("url") + 1] = executorsUrl;
  }

  private static LogicalWriteInfo ofConnector(LogicalWriteInfo info) {
    InvocationHandler handler =
        (proxy, method, arguments) ->
            method.getName().equals("options") ? WatchedProvider.ofConnector(info.options()) : method.invoke(info, arguments);
    return (LogicalWriteInfo) Proxy.newProxyInstance(Watched.class.getClassLoader(), new Class<?>[] {LogicalWriteInfo.class}, handler);
  }

  private static long batchesUntil(Object offset) {
    Matcher ends = ENDS.matcher(((Offset) offset).json());
    if (!ends.find()) {
      throw new IllegalStateException("no offset: " + offset);
    }
    return Arrays.stream(ends.group(1).split(",")).mapToLong(end -> Long.parseLong(end.split(":")[1].trim())).sum();
  }
}
