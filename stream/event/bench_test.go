package event

import "testing"

// Records as the benchmark's generator and the contract write them.
const (
	usageRecord     = `{"id":"u-17","customer_id":"c-000042","time":"2026-01-05T10:00:00.000Z","type":"session","quantity":12.5,"unit":"minutes"}`
	paymentRecord   = `{"id":"p-17","customer_id":"c-000042","time":"2026-01-05T10:00:00.000Z","type":"purchase","amount":49.90,"currency":"EUR"}`
	detailedPayment = `{"id":"p-17","customer_id":"c-000042","time":"2026-01-05T10:00:00.000Z","type":"charge_failed","amount":49.90,"recurring":true,"promotion":{"id":"jan","ends_at":"2026-02-01T00:00:00Z"},"attempt":2,"next_attempt_at":"2026-01-08T10:00:00Z","failure_code":"card_declined","balance_after":-812.00}`
	complaintRecord = `{"id":"k-17","customer_id":"c-000042","time":"2026-01-05T10:00:00.000Z","type":"opened","complaint_id":"T-9","priority":"high","subject":"late delivery"}`
	mappedRecord    = `{"evt":{"uuid":"p-17","at":1767607200123,"name":"charge.succeeded"},"data":{"object":{"customer":"c-000042","amount":4990,"currency":"eur","metadata":{"shop":"a"}}}}`
)

func mappedPayments() *Mapping {
	return &Mapping{
		Fields: map[string]Field{
			"id": {Paths: []string{"evt.uuid"}}, "time": {Paths: []string{"evt.at"}}, "type": {Paths: []string{"evt.name"}},
			"customer_id": {Paths: []string{"data.object.customer"}}, "amount": {Paths: []string{"data.object.amount"}},
			"currency": {Paths: []string{"data.object.currency"}},
		},
		Types:  map[string]TypeRule{"charge.succeeded": {Type: "charge"}, "*": {Type: "ignore"}},
		Time:   TimeForm{Format: "epoch_ms"},
		Amount: AmountForm{MinorUnits: true},
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name   string
		feed   Feed
		m      *Mapping
		record string
	}{
		{"usage", Usage, nil, usageRecord},
		{"payment", Payments, nil, paymentRecord},
		{"complaint", Complaints, nil, complaintRecord},
		{"mapped", Payments, mappedPayments(), mappedRecord},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := NewDecoder(c.feed, c.m, Limits{})
			if err != nil {
				b.Fatal(err)
			}
			var e Event
			key, value := []byte("c-000042"), []byte(c.record)
			pos := Position{Topic: "t", Timestamp: -1}
			b.ReportAllocs()
			b.SetBytes(int64(len(value)))
			for b.Loop() {
				if err := d.Decode(pos, key, value, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
