module github.com/lhspn/lhspn/interop

go 1.26.0

require (
	github.com/anachronistic/apns v0.0.0-20151129191123-91763352f7bf
	github.com/joekarl/go-libapns v3.0.0+incompatible
	github.com/sideshow/apns2 v0.25.0
	github.com/timehop/apns v0.0.0-20230403143859-c2b19f701c60
)

require (
	github.com/davecgh/go-spew v1.1.0 // indirect
	github.com/golang-jwt/jwt/v4 v4.4.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	github.com/stretchr/objx v0.1.0 // indirect
	github.com/stretchr/testify v1.7.0 // indirect
	golang.org/x/crypto v0.0.0-20170512130425-ab89591268e0 // indirect
	golang.org/x/net v0.8.0 // indirect
	golang.org/x/text v0.8.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
