SwaggerUIBundle({
  url: '../openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  // Keys that are typed in are gone when the page is.
  persistAuthorization: false,
  // The badge would call a validator on another host.
  validatorUrl: null,
});
