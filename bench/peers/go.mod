module github.com/lhspn/lhspn/bench/peers

go 1.26.0

require (
	github.com/SherClockHolmes/webpush-go v1.4.0
	github.com/anachronistic/apns v0.0.0-20151129191123-91763352f7bf
	github.com/joekarl/go-libapns v3.0.0+incompatible
	github.com/sideshow/apns2 v0.25.0
)

require (
	github.com/davecgh/go-spew v1.1.0 // indirect
	github.com/golang-jwt/jwt/v4 v4.4.1 // indirect
	github.com/golang-jwt/jwt/v5 v5.2.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	github.com/stretchr/objx v0.1.0 // indirect
	github.com/stretchr/testify v1.7.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	gopkg.in/yaml.v3 v3.0.0-20200313102051-9f266ea9e77c // indirect
)
