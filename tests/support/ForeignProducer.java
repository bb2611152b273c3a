import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Publishes records with Kafka's own client: one producer for each pair of a mode and a value.
 *
 * <p>Arguments: bootstrap servers, topic, then pairs of MODE:CODEC and the value. MODE is plain,
 * commit, abort (in a transaction), or open: a transaction that is left as it is.
 */
public class ForeignProducer {
    public static void main(String[] arguments) throws Exception {
        for (int at = 2; at < arguments.length; at += 2) {
            String[] how = arguments[at].split(":");
            publish(arguments[0], arguments[1], how[0], how[1], arguments[at + 1]);
        }
        System.out.flush();
        Runtime.getRuntime().halt(0); // closing a producer would abort its open transaction
    }

    private static void publish(String bootstrap, String topic, String mode, String codec, String value)
            throws Exception {
        Map<String, Object> settings =
                Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 0);
        if (!mode.equals("plain")) {
            settings = new java.util.HashMap<>(settings);
            settings.put("transactional.id", topic + "-" + mode + "-" + codec);
        }
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        if (!mode.equals("plain")) {
            producer.initTransactions();
            producer.beginTransaction();
        }
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        producer.send(new ProducerRecord<>(topic, 0, "key".getBytes(), bytes)).get();
        switch (mode) {
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            default -> {
                if (mode.equals("open")) return;
            }
        }
        producer.close();
    }
}
